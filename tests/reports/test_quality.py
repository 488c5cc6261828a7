import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kinescribe.reports.quality import measures
from kinescribe.reports.report import write_report
from kinescribe.schemas.clips import WorkUnit, stable_id
from kinescribe.schemas.dataset import HASHES, QUALITY, triplet_schema
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import plan_digest, write_plan
from kinescribe.storage.run import Run, bind
from kinescribe.storage.shards import write_unit
from tests.tiny_dataset import GRID, build, clip, outcome, row


def dataset(folder: Path, values: list[dict[str, Any]]) -> str:
    """A dataset with a clip of two triplets for each of these values."""
    clips = [clip(f"clip {at}") for at in range(len(values))]
    unit = WorkUnit(stable_id("unit"), tuple(clips))
    bind(str(folder), Run("0", {"quality": list(QUALITY)}, {}, "codec-of-tests", GRID, plan_digest(clips)))
    write_plan(str(folder), [unit])
    hashes = {name: hashlib.md5(name.encode(), usedforsecurity=False).digest() for name in HASHES}
    rows = [
        row(item, at) | hashes | changes for item, changes in zip(clips, values, strict=True) for at in (0, 1)
    ]
    schema = triplet_schema("codec-of-tests", GRID, QUALITY)
    write_unit(str(folder), unit, pa.Table.from_pylist(rows, schema), [outcome(item, 2) for item in clips])
    return str(folder)


def test_each_measure_has_its_distribution_and_the_worst_pair_of_each_clip(tmp_path: Path):
    name = dataset(tmp_path, [{"sharpness": 40.0 - at, "bars": 0.1 * at} for at in range(5)])
    sharpness, bars = measures(Dataset.open(name).scan())
    assert (sharpness.title, bars.title) == ("sharpness", "bars")
    assert [example.value for example in sharpness.examples] == [36, 37, 38]
    assert [example.video for example in sharpness.examples] == [f"videos/clip {at}.mp4" for at in (4, 3, 2)]
    assert [example.value for example in bars.examples] == pytest.approx([0.4, 0.3, 0.2])
    assert all(example.source.startswith("data:image/") for example in bars.examples)
    assert sum(sharpness.histogram.counts) == 10
    assert (sharpness.histogram.median, bars.histogram.axis.ticks[-1]) == (38, 0.4)


def test_a_pair_without_bars_is_no_bad_example(tmp_path: Path):
    (bars,) = measures(Dataset.open(dataset(tmp_path, [{"bars": 0.0}])).scan())
    assert bars.examples == []


def test_a_dataset_that_was_not_measured_has_none(tmp_path: Path):
    build(str(tmp_path), [1])
    assert measures(Dataset.open(str(tmp_path)).scan()) == []


def test_the_page_shows_the_measures_that_are_there(tmp_path: Path):
    write_report(dataset(tmp_path / "d", [{"brightness": 0.25}]), str(tmp_path / "d.html"))
    build(str(tmp_path / "old"), [1])
    write_report(str(tmp_path / "old"), str(tmp_path / "old.html"))
    page = (tmp_path / "d.html").read_text()
    assert "<strong>brightness</strong>" in page
    assert "median 0.25" in page
    assert "<strong>sharpness</strong>" not in page
    assert 'id="quality"' not in (tmp_path / "old.html").read_text()
