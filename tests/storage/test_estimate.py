from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.estimate import Estimate, Interval
from kinescribe.schemas.outcomes import StageTime
from kinescribe.storage.audit import status, totals
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.estimate import Comparison, compare, read_estimate, require_estimate, write_estimate
from kinescribe.storage.run import read_run
from tests.tiny_dataset import build, commit

ESTIMATE = Estimate(
    fingerprint="",
    clips=3,
    units=2,
    sampled=2,
    rejected=0.25,
    triplets=Interval(4, 2, 6),
    size_bytes=1000,
    stage_s={"decode": 1.5, "label": 2.5, "write": 0.5},
    gpu=False,
    card_bytes=0,
    model_bytes=0,
    startup_s=3.0,
)


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    build(str(tmp_path), [2, 1, 1], pending=1)
    return str(tmp_path)


def compared(dataset: str) -> Comparison | None:
    opened = Dataset.open(dataset)
    return compare(opened, totals(opened).stage_s)


def of_run(dataset: str) -> Estimate:
    return replace(ESTIMATE, fingerprint=read_run(dataset)["fingerprint"])


def test_an_estimate_is_read_as_it_was_written_and_replaced_by_the_next(dataset: str):
    assert read_estimate(Dataset.open(dataset)) is None
    for clips in (3, 4):
        estimate = replace(of_run(dataset), clips=clips)
        write_estimate(dataset, estimate)
        assert read_estimate(Dataset.open(dataset)) == estimate


@pytest.mark.parametrize("read", [status, read_run])
def test_an_error_says_that_a_planned_run_has_not_begun(read: Callable[[str], object], tmp_path: Path):
    write_estimate(str(tmp_path), ESTIMATE)
    with pytest.raises(DatasetError, match=f"that has not begun; start it .* `--out {tmp_path}`"):
        read(str(tmp_path))


def test_a_run_is_compared_with_its_estimate(dataset: str):
    assert compared(dataset) is None
    write_estimate(dataset, of_run(dataset))
    found = compared(dataset)
    assert found
    assert found.planned == of_run(dataset)
    (unit,) = Path(dataset, "data").iterdir()
    assert found.size_bytes == unit.stat().st_size
    assert found.stage_s == {}


def test_stages_are_compared_by_their_work_and_not_by_the_clock(tmp_path: Path):
    stages = [StageTime("decode", 1e9, 9.0, "node/7", 1.5), StageTime("label", 1e9 + 9, 8.0, "node/8", 2.5)]
    units = build(str(tmp_path), [1, 1], clips_per_unit=1, pending=2)
    for unit in units:
        assert commit(str(tmp_path), unit, {unit.clips[0].clip_id: 1}, stages)
    write_estimate(str(tmp_path), of_run(str(tmp_path)))
    found = compared(str(tmp_path))
    assert found
    assert found.stage_s == {"decode": 3.0, "label": 5.0}


def test_the_estimate_of_another_run_is_refused(dataset: str):
    write_estimate(dataset, ESTIMATE)
    with pytest.raises(DatasetError, match=r"estimate\.json is the estimate of a run with another input"):
        compared(dataset)


@pytest.mark.parametrize("text", ["", "{}", '{"clips": "3"}'])
def test_a_damaged_estimate_is_refused(text: str, dataset: str):
    Path(dataset, "estimate.json").write_text(text)
    with pytest.raises(
        DatasetError, match=r"estimate\.json is not an estimate, or damaged .*; remove it, then plan again"
    ):
        compared(dataset)


def test_an_estimate_does_not_replace_another_file(tmp_path: Path):
    require_estimate(str(tmp_path))
    write_estimate(str(tmp_path), ESTIMATE)
    require_estimate(str(tmp_path))
    (tmp_path / "estimate.json").write_text('{"mine": 1}')
    with pytest.raises(DatasetError, match=r"estimate\.json is not an estimate.*; remove it"):
        require_estimate(str(tmp_path))
