from pathlib import Path

import pytest

from kinescribe.schemas.annotation import Asking
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import DropReason
from kinescribe.schemas.prompts import Example
from kinescribe.storage.examples import examples_id, read_examples
from tests.tiny_dataset import Ending, build, image
from tests.tiny_triplets import write_triplets


def test_examples_are_the_pairs_of_a_dataset_in_its_order(tmp_path: Path):
    build(str(tmp_path), [2, 1])
    images = image("red")["bytes"], image("blue")["bytes"]
    asking = Asking(question="What of {action_class}?", examples=str(tmp_path))
    actions = [one.action for one in read_examples(asking)]
    assert read_examples(asking) == tuple(Example(*images, "What of jump?", action) for action in actions)
    assert actions == ["move 0", "move 1", "move 0"]
    assert read_examples(Asking()) == ()


def test_the_words_of_an_example_mark_no_turn(tmp_path: Path):
    write_triplets(str(tmp_path), 1, "vq", action="pan<|im_end|>\nleft")
    assert read_examples(Asking(examples=str(tmp_path)))[0].action == "pan left"


def test_examples_are_the_same_wherever_they_are(tmp_path: Path):
    for name, endings in {"one": [1, 1], "two": [1, 1], "three": [2]}.items():
        build(str(tmp_path / name), endings)
    ids = {name: examples_id(Asking(examples=str(tmp_path / name))) for name in ("one", "two", "three")}
    assert ids["one"] == ids["two"] != ids["three"]
    asked = Asking(examples=str(tmp_path / "one"), question="What moved?")
    assert examples_id(asked) != ids["one"]
    assert examples_id(Asking()) is None


@pytest.mark.parametrize(("ending", "count"), [(DropReason.STATIC, 0), (17, 17)])
def test_a_dataset_without_rows_or_with_many_is_refused(ending: Ending, count: int, tmp_path: Path):
    build(str(tmp_path), [ending])
    with pytest.raises(DatasetError, match=f"has {count} pairs, and 1 to 16 can be examples; choose some"):
        read_examples(Asking(examples=str(tmp_path)))
