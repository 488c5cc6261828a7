from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import DatasetError
from schemas.estimate import Estimate, Interval
from storage.estimate import compare, read_estimate, write_estimate
from storage.run import read_run
from tests.tiny_dataset import build

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


def of_run(dataset: str) -> Estimate:
    return replace(ESTIMATE, fingerprint=read_run(dataset)["fingerprint"])


def test_an_estimate_is_read_as_it_was_written_and_replaced_by_the_next(dataset: str):
    assert read_estimate(dataset) is None
    for clips in (3, 4):
        estimate = replace(of_run(dataset), clips=clips)
        write_estimate(dataset, estimate)
        assert read_estimate(dataset) == estimate


def test_a_run_is_compared_with_its_estimate(dataset: str):
    assert compare(dataset) is None
    write_estimate(dataset, of_run(dataset))
    compared = compare(dataset)
    assert compared
    assert compared.planned == of_run(dataset)
    (unit,) = Path(dataset, "data").iterdir()
    assert compared.size_bytes == unit.stat().st_size


def test_the_estimate_of_another_run_is_refused(dataset: str):
    write_estimate(dataset, ESTIMATE)
    with pytest.raises(DatasetError, match=r"estimate\.json is the estimate of a run with another input"):
        compare(dataset)


@pytest.mark.parametrize("text", ["", "{}", '{"clips": "3"}'])
def test_a_damaged_estimate_is_said(text: str, dataset: str):
    Path(dataset, "estimate.json").write_text(text)
    with pytest.raises(DatasetError, match=r"estimate\.json is damaged; remove it, or plan again"):
        compare(dataset)
