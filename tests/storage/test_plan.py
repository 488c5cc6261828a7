from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinescribe.labeling.units import plan_units
from kinescribe.schemas.clips import Clip
from kinescribe.schemas.errors import DatasetError
from kinescribe.storage.plan import (
    Plan,
    num_retries,
    plan_digest,
    plan_uri,
    read_plan,
    write_plan,
    write_plan_tables,
)
from tests.tiny_dataset import clip

CLIPS = [clip(str(index)) for index in range(5)]
READS = (
    lambda plan: list(plan.units()),
    lambda plan: plan.clips_by_unit,
    lambda plan: plan.columns(["uri"]),
    lambda plan: plan.digest(),
)


def test_a_plan_is_read_back_unit_by_unit(tmp_path: Path):
    clips = [*CLIPS, replace(clip("w"), action_class=None, start_s=1.5, end_s=2.0, size_bytes=None)]
    units = plan_units(clips, 4, "fingerprint")
    write_plan(str(tmp_path), units)
    assert list(read_plan(str(tmp_path))) == units
    assert Plan(plan_uri(str(tmp_path))).columns(["clip_id"])["clip_id"].to_pylist() == [
        c.clip_id for c in clips
    ]


def test_the_digest_of_a_written_plan_is_that_of_its_clips_and_columns(tmp_path: Path):
    def digest(name: str, clips: Sequence[Clip], **columns: Sequence[object]) -> str:
        folder = str(tmp_path / name)
        write_plan(f"{folder}-plain", plan_units(clips, 2, "fingerprint"))
        table = pq.read_table(plan_uri(f"{folder}-plain"))
        for column, values in columns.items():
            table = table.append_column(column, pa.array(values))
        write_plan_tables(folder, [table.slice(0, 2), table.slice(2)])
        return Plan(plan_uri(folder)).digest()

    camera = ["left", None, "right", "ü", ""]
    later = [*CLIPS[:-1], replace(CLIPS[-1], start_s=0.5)]
    assert digest("same", CLIPS) == plan_digest(CLIPS)
    assert digest("later", later) == plan_digest(later)
    found = [
        digest("0", CLIPS),
        digest("1", later),
        digest("2", CLIPS, camera=camera),
        digest("3", CLIPS, camera=camera[::-1]),
        digest("4", CLIPS, camera=camera, day=[1, 2, 3, 4, 5]),
    ]
    assert len({*found}) == len(found)
    assert {len(one) for one in found} == {32}


def test_a_plan_writes_nothing_beside_itself(tmp_path: Path):
    write_plan(str(tmp_path), plan_units(CLIPS, 2, "fingerprint"))
    assert {path.name for path in tmp_path.iterdir()} <= {"plan", ".tmp"}
    assert [path.name for path in (tmp_path / "plan").iterdir()] == ["clips.parquet"]


def test_a_plan_longer_than_a_batch_is_read_back_whole(tmp_path: Path):
    # More units than UNITS_PER_BATCH, and units that span the boundary of a batch of the reader's.
    units = plan_units([clip(str(index)) for index in range(66_000)], 13, "fingerprint")
    write_plan(str(tmp_path), units)
    assert list(read_plan(str(tmp_path))) == units
    counted = Plan(plan_uri(str(tmp_path))).clips_by_unit
    assert list(counted.items()) == [(unit.unit_id, len(unit.clips)) for unit in units]


def test_a_retry_has_a_plan_of_its_own(tmp_path: Path):
    first, again, once_more = (plan_units(CLIPS, 2, name) for name in ("first", "again", "once more"))
    write_plan(str(tmp_path), first)
    assert num_retries(str(tmp_path)) == 0
    write_plan(str(tmp_path), again[:1], retry=1)
    write_plan(str(tmp_path), once_more, retry=1)
    assert num_retries(str(tmp_path)) == 1
    assert list(read_plan(str(tmp_path))) == first
    assert list(read_plan(str(tmp_path), 1)) == again[:1]
    assert Plan(plan_uri(str(tmp_path), 1)).clips_by_unit == {again[0].unit_id: 2}


def test_the_first_plan_stays(tmp_path: Path):
    first, second = plan_units(CLIPS, 2, "first"), plan_units(CLIPS, 2, "second")
    write_plan(str(tmp_path), first)
    write_plan(str(tmp_path), second)
    assert list(read_plan(str(tmp_path))) == first


def test_a_plan_may_have_no_clips(tmp_path: Path):
    write_plan(str(tmp_path), [])
    assert list(read_plan(str(tmp_path))) == []


def test_a_corpus_may_move_but_not_change():
    moved = [replace(clip, uri=f"/elsewhere/{clip.uri}", size_bytes=None) for clip in CLIPS]
    assert plan_digest(moved) == plan_digest(CLIPS)
    assert plan_digest(CLIPS[::-1]) != plan_digest(CLIPS)
    assert plan_digest(CLIPS[:-1]) != plan_digest(CLIPS)
    for change in ({"clip_id": "x"}, {"action_class": "run"}, {"start_s": 0.5}, {"end_s": 0.5}):
        assert plan_digest([replace(CLIPS[0], **change), *CLIPS[1:]]) != plan_digest(CLIPS)


def test_a_plan_whose_pages_are_damaged_is_refused_with_a_remedy(tmp_path: Path):
    write_plan(str(tmp_path), plan_units(CLIPS, 2, "run"))
    plan = tmp_path / "plan" / "clips.parquet"
    plan.write_bytes(plan.read_bytes().replace(b"\x28\xb5\x2f\xfd", b"zstd"))  # how its pages begin
    for read in READS:
        with pytest.raises(DatasetError, match="restore it from a backup"):
            read(Plan(str(plan)))


@pytest.mark.parametrize("name", ["unit_id", "clip_id", "uri"])
def test_a_plan_whose_columns_may_lack_values_is_refused(tmp_path: Path, name: str):
    write_plan(str(tmp_path), plan_units(CLIPS, 2, "run"))
    plan = tmp_path / "plan" / "clips.parquet"
    rows = pq.read_table(plan)
    place = rows.column_names.index(name)
    nulls = pa.nulls(len(rows), pa.string())
    pq.write_table(rows.set_column(place, pa.field(name, pa.string()), nulls), plan)
    for read in READS:
        with pytest.raises(DatasetError, match=f"column {name} .* may lack values.* restore it"):
            read(Plan(str(plan)))


@pytest.mark.parametrize("plan", [b"junk", b""])
def test_a_damaged_plan_is_refused_with_a_remedy(tmp_path: Path, plan: bytes):
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "clips.parquet").write_bytes(plan)
    for read in READS:
        with pytest.raises(DatasetError, match="restore it from a backup"):
            read(Plan(plan_uri(str(tmp_path))))
