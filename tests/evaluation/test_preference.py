from pathlib import Path

import numpy as np
import pytest

from kinescribe.evaluation.label_accuracy import Rate
from kinescribe.evaluation.preference import FALSE_WAYS, Triplets, false_twins, prefer
from kinescribe.models.tokens import CodeTriplet, Triplet
from kinescribe.schemas.errors import DatasetError
from tests.tiny_triplets import LABELLED, write_triplets
from tests.tiny_vlm import tiny_vlm

ACTIONS = ["move the red ball left", "move the red ball left", "turn the blue box", "jump"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("preference") / "triplets")
    write_triplets(folder, 40, tiny_vlm().codec_id)
    return folder


def triplets() -> Triplets:
    codes_NL = np.arange(32, dtype=np.uint16).reshape(4, 8)
    return Triplets(codes_NL, codes_NL + 100, np.array(ACTIONS))


def twins(index: int, seed: int = 0) -> dict[str, Triplet[int]]:
    return false_twins(triplets(), index, np.random.default_rng(seed))


def test_a_random_action_never_has_the_same_text():
    assert {twins(0, seed)["random action"].action for seed in range(20)} == {"turn the blue box", "jump"}


def test_a_random_target_is_another_triplets():
    assert {twins(0, seed)["random target"].target for seed in range(20)} == {4 + 1, 4 + 2, 4 + 3}


def test_a_copy_and_a_swap_are_made_of_the_same_two_images():
    made = twins(1)
    assert made["copied source"] == Triplet(1, 1, ACTIONS[1])
    assert made["swapped"] == Triplet(4 + 1, 1, ACTIONS[1])


def test_turning_has_no_swap_since_that_is_as_true():
    assert "swapped" not in twins(2)
    assert "swapped" in twins(3)


def test_what_did_not_change_has_neither_copy_nor_swap():
    rows = triplets()
    still = rows._replace(target_NL=rows.source_NL)
    assert set(false_twins(still, 0, np.random.default_rng(0))) == {"random action", "random target"}


def test_one_triplet_alone_has_no_random_twin():
    alone = Triplets(*(column[:1] for column in triplets()))
    assert set(false_twins(alone, 0, np.random.default_rng(0))) == {"copied source", "swapped"}


@pytest.mark.parametrize("task", ["dynamics", "world"])
def test_shares_are_a_function_of_the_seed_and_count_every_fair_twin(dataset: str, task: str):
    assert task in ("dynamics", "world")
    first, again = (prefer(tiny_vlm(), dataset, task, 30, seed=2) for _ in range(2))
    assert first == again
    assert first.triplets == 30
    assert {way: rate.total for way, rate in first.likelier.items()} == dict.fromkeys(FALSE_WAYS, 30)
    assert prefer(tiny_vlm(), dataset, task, 30, seed=3) != first


def test_a_share_is_that_of_higher_likelihoods(dataset: str):
    """The copy's likelihoods, one by one: batches and padding change nothing."""
    from kinescribe.storage.dataset import Dataset

    model = tiny_vlm()
    rows = Dataset.open(dataset).scan(("source_codes", "target_codes", "action")).head(20).to_pylist()
    wins = 0
    for row in rows:
        source, target = (np.array(row[name], np.uint16) for name in ("source_codes", "target_codes"))
        true, false = (
            model.score([CodeTriplet(source, codes, row["action"])])[0] for codes in (target, source)
        )
        wins += true > false
    assert prefer(model, dataset, "dynamics", 20, seed=0).likelier["copied source"] == Rate(wins, 20)


def test_actions_that_a_model_wrote_are_counted(tmp_path: Path):
    model = tiny_vlm()
    for name, columns in (("given", {}), ("written", LABELLED)):
        write_triplets(str(tmp_path / name), 4, model.codec_id, **columns)
    given, written = (prefer(model, f"{tmp_path}/{name}", "world", 4, 0) for name in ("given", "written"))
    assert (given.written, written.written) == (0, 4)
    assert ("actions that a model wrote", "4") in [row for table in written.tables() for row in table.rows]


def test_actions_that_are_too_long_for_the_model_are_refused(dataset: str):
    model = tiny_vlm()
    model.network.config.max_position_embeddings = 40
    with pytest.raises(
        DatasetError, match=r"2 actions of .*triplets are too long for the model, first 'move"
    ):
        prefer(model, dataset, "world", 30, seed=0)


def test_codes_of_another_codec_are_refused(tmp_path: Path):
    write_triplets(str(tmp_path / "other"), 4, "vq-of-another")
    with pytest.raises(DatasetError, match="vq-of-another"):
        prefer(tiny_vlm(), str(tmp_path / "other"), "dynamics", 4, seed=0)
