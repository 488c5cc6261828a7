from pathlib import Path

import pyarrow as pa
import pytest

from kinescribe.labeling.ratings import Ratings, read_reviews
from kinescribe.labeling.reviewed import write_reviewed
from kinescribe.labeling.units import plan_units
from kinescribe.schemas.clips import stable_id
from kinescribe.schemas.dataset import LIKELIHOODS, triplet_schema
from kinescribe.schemas.errors import DatasetError, InputError
from kinescribe.schemas.outcomes import DropReason
from kinescribe.storage.audit import check
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind
from kinescribe.storage.shards import write_unit
from tests.reviews import KEEP, REJECT, correct, review, triplets
from tests.tiny_dataset import GRID, build, clip, outcome, row, run_of


@pytest.fixture(name="dataset")
def dataset_of_six(tmp_path: Path) -> Path:
    build(str(tmp_path / "dataset"), [3, DropReason.STATIC, 3])
    return tmp_path / "dataset"


def ratings_of(*files: str) -> Ratings:
    (ratings,) = read_reviews(files).values()
    return ratings


def write(dataset: Path, out: Path, *files: str) -> int:
    return write_reviewed(Dataset.open(dataset), ratings_of(*files), str(out), lambda done, total: None)


def rows_of(dataset: Path) -> dict[str, dict[str, object]]:
    return {one["triplet_id"]: one for one in Dataset.open(dataset).scan().to_table().to_pylist()}


def test_kept_and_corrected_rows_are_written_with_given_actions(tmp_path: Path, dataset: Path):
    file = review(tmp_path, dataset, [KEEP, correct("lift  the cup"), REJECT, KEEP])
    out = tmp_path / "corrected"
    assert write(dataset, out, file) == 3
    ids, before, after = triplets(dataset), rows_of(dataset), rows_of(out)
    assert after.keys() == {ids[0], ids[1], ids[3]}
    assert after[ids[1]]["action"] == "lift the cup"
    assert after[ids[0]]["action"] == before[ids[0]]["action"]
    for triplet_id, values in after.items():
        assert all(values[name] is None for name in LIKELIHOODS)
        own = before[triplet_id].keys() - {"action", *LIKELIHOODS}
        assert all(values[name] == before[triplet_id][name] for name in own)
    assert check(str(out)).ok


def test_it_resumes_and_refuses_other_ratings(tmp_path: Path, dataset: Path):
    file, out = review(tmp_path, dataset, [KEEP, REJECT]), tmp_path / "corrected"
    write(dataset, out, file)
    before = rows_of(out)
    next(iter((out / "data").iterdir())).unlink()
    write(dataset, out, file)
    assert rows_of(out) == before
    with pytest.raises(DatasetError, match="belongs to another run"):
        write(dataset, out, review(tmp_path, dataset, [KEEP, KEEP]))


def test_other_words_are_other_rows(tmp_path: Path, dataset: Path):
    out = tmp_path / "corrected"
    write(dataset, out, review(tmp_path, dataset, [correct("a")], "anna"))
    with pytest.raises(DatasetError, match="belongs to another run"):
        write(dataset, out, review(tmp_path, dataset, [correct("b")], "bela"))


def test_nothing_right_is_nothing_to_write(tmp_path: Path, dataset: Path):
    build(str(tmp_path / "none"), [DropReason.STATIC])
    for reviewed, ratings in ((dataset, [REJECT]), (tmp_path / "none", {stable_id("a"): KEEP})):
        with pytest.raises(InputError, match=r"no row of .* was kept or corrected"):
            write(reviewed, tmp_path / "corrected", review(tmp_path, reviewed, ratings))
    assert not (tmp_path / "corrected").exists()


def test_what_a_vocabulary_says_of_other_words_is_left_out(tmp_path: Path):
    """Columns that the run declares, as `label` does, and carried columns, which stay."""
    dataset, one = tmp_path / "dataset", clip("a")
    run = run_of([one], annotation={"vocabulary": ["a", "b"]}, quality=["sharpness"])
    (unit,) = plan_units([one], 1, run.fingerprint)
    bind(str(dataset), run)
    write_plan(str(dataset), [unit])
    schema = triplet_schema("codec-of-tests", GRID, ["sharpness", "vocabulary"]).append(
        pa.field("robot", pa.string())
    )
    values = row(one, 0) | {"sharpness": 3.0, "action_probability": 0.5, "robot": "r2"}
    assert write_unit(str(dataset), unit, pa.Table.from_pylist([values], schema), [outcome(one, 1)])
    write(dataset, tmp_path / "corrected", review(tmp_path, dataset, [correct("c")]))
    (after,) = rows_of(tmp_path / "corrected").values()
    assert not {"action_probability", "action_runner_up"} & after.keys()
    assert (after["sharpness"], after["robot"], after["action"]) == (3.0, "r2", "c")
    assert check(str(tmp_path / "corrected")).ok
