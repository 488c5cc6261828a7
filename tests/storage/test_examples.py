from pathlib import Path

import pyarrow as pa
import pytest

from kinescribe.schemas.annotation import Asking
from kinescribe.schemas.clips import WorkUnit, stable_id
from kinescribe.schemas.dataset import triplet_schema
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import DropReason
from kinescribe.schemas.prompts import Example
from kinescribe.storage.examples import examples_id, read_examples
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind
from kinescribe.storage.shards import write_unit
from tests.tiny_dataset import GRID, Ending, build, clip, image, outcome, row, run_of
from tests.tiny_triplets import write_triplets


def test_examples_are_the_pairs_of_a_dataset_in_its_order(tmp_path: Path):
    build(str(tmp_path), [2, 1])
    images = image("red")["bytes"], image("blue")["bytes"]
    asking = Asking(question="What of {action_class}?", examples=str(tmp_path))
    actions = [one.action for one in read_examples(asking)]
    assert read_examples(asking) == tuple(Example(images, "What of jump?", action) for action in actions)
    assert actions == ["move 0", "move 1", "move 0"]
    assert read_examples(Asking()) == ()


def test_the_words_of_an_example_mark_no_turn(tmp_path: Path):
    write_triplets(str(tmp_path), 1, "vq", action="pan<|im_end|>\nleft")
    assert read_examples(Asking(examples=str(tmp_path)))[0].action == "pan left"


def test_examples_show_their_frames_between_if_the_model_sees_such(tmp_path: Path):
    clips = [clip("a")]
    bind(str(tmp_path), run_of(clips, annotation={"context_frames": 2}))
    unit = WorkUnit(stable_id("unit"), tuple(clips))
    write_plan(str(tmp_path), [unit])
    schema = triplet_schema("codec-of-tests", GRID, ["context_frames"])
    rows = [row(clips[0], 0) | {"context": [image("green"), image("white")]}]
    write_unit(str(tmp_path), unit, pa.Table.from_pylist(rows, schema), [outcome(clips[0], 1)])
    for context_frames, colours in ((0, ["red", "blue"]), (2, ["red", "green", "white", "blue"])):
        asking = Asking(examples=str(tmp_path), context_frames=context_frames)
        assert read_examples(asking)[0].images == tuple(image(colour)["bytes"] for colour in colours)


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
