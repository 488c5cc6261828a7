import contextlib
import json
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinescribe.schemas.clips import Clip, WorkUnit, stable_id
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import ClipOutcome, DropReason, RejectCode, StageTime, Status
from kinescribe.storage import uri
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import write_plan
from kinescribe.storage.rows import unit_ids
from kinescribe.storage.run import bind
from kinescribe.storage.shards import (
    FOOTER_KEY,
    committed_units,
    parse_footer,
    read_footer,
    rows_digest,
    unit_uri,
    write_unit,
)
from tests.tiny_dataset import GRID, SCHEMA, build, clip, flip_a_bit, image, outcome, row, run_of, table

A, B = clip("a"), clip("b")
UNIT_ID = stable_id("unit")
UNIT = WorkUnit(UNIT_ID, (B, A))
DECODE = StageTime("decode", 1e9, 1.5, "node/7", 1.2)
KEPT = [outcome(B, 2), outcome(A, 2)]
ROWS = [row(clip, index) for clip in (B, A) for index in (0, 1)]


def read(dataset: Path, unit_id: str = UNIT_ID) -> pa.Table:
    return pq.read_table(unit_uri(str(dataset), unit_id))


def test_a_unit_is_committed_once(tmp_path: Path):
    other = [{**row, "action": "something else"} for row in ROWS]
    assert write_unit(str(tmp_path), UNIT, table(ROWS), KEPT)
    assert not write_unit(str(tmp_path), UNIT, table(other), KEPT)
    assert read(tmp_path)["action"].to_pylist() == ["move 0", "move 1"] * 2


def test_rows_are_in_the_order_of_clips_and_time(tmp_path: Path):
    write_unit(str(tmp_path), UNIT, table(ROWS[::-1]), KEPT)
    assert read(tmp_path).equals(table(ROWS))


def test_the_same_rows_give_the_same_bytes_before_the_footer(tmp_path: Path):
    bodies, digests = [], []
    for name, rows in (("x", table(ROWS)), ("y", pa.concat_tables([table(ROWS[2:]), table(ROWS[:2])]))):
        write_unit(str(tmp_path / name), UNIT, rows, KEPT)
        data = Path(unit_uri(str(tmp_path / name), UNIT_ID)).read_bytes()
        bodies.append(data[: -8 - int.from_bytes(data[-8:-4], "little")])
        digests.append(read_footer(unit_uri(str(tmp_path / name), UNIT_ID)).digest)
    assert bodies[0] == bodies[1]
    assert digests[0] == digests[1]


def test_the_digest_is_that_of_the_rows_read_back(tmp_path: Path):
    write_unit(str(tmp_path), UNIT, table(ROWS), KEPT)
    assert read_footer(unit_uri(str(tmp_path), UNIT_ID)).digest == rows_digest(read(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"action": "movf 0"},
        {"action_class": None},
        {"action_class": ""},
        {"action_logprob": None},
        {"source_time_s": 0.25},
        {"importance": [1.0]},
        {"importance": []},
        {"importance": None},
        {"source_codes": [0, 1, 2, 3, 4]},
        {"source": image("green")},
        {"source": {"bytes": None, "path": None}},
        {"source": None},
    ],
)
def test_the_digest_changes_with_any_value(change: dict[str, Any]):
    assert rows_digest(table([{**ROWS[0], **change}])) != rows_digest(table(ROWS[:1]))


def test_the_digest_depends_on_the_boundaries_of_values():
    texts = [pa.table({"a": values}) for values in (["ab", "c"], ["a", "bc"], ["abc", ""])]
    lists = [pa.table({"a": values}) for values in ([[1, 2], [3]], [[1], [2, 3]])]
    assert len({rows_digest(rows) for rows in texts + lists}) == 5


def test_a_footer_says_how_each_clip_ended(tmp_path: Path):
    c = clip("c")
    ends = [
        ClipOutcome(B.clip_id, Status.KEPT, 2, pair_drops={"static": 3}),
        outcome(A, DropReason.FEW_KEYFRAMES),
        outcome(c, RejectCode.TIMEOUT, message="too slow " * 1000),
    ]
    write_unit(str(tmp_path), WorkUnit(UNIT_ID, (B, A, c)), table(ROWS[:2]), ends, [DECODE])
    footer = read_footer(unit_uri(str(tmp_path), UNIT_ID))
    assert footer.unit_id == UNIT_ID
    assert footer.outcomes == (*ends[:2], replace(ends[2], message=("too slow " * 1000)[:500]))
    assert footer.stages == (DECODE,)
    assert footer.committed_at.tzinfo is not None


@pytest.mark.parametrize("text", ['"}],"unit_id":"x', "\x00\x1b[2J\r\n", "</script>", "\ud83d", "\u2028動画"])
def test_no_message_breaks_a_footer(tmp_path: Path, text: str):
    ends = [
        ClipOutcome(one.clip_id, Status.REJECTED, reason=RejectCode.CRASHED, message=text) for one in (B, A)
    ]
    write_unit(str(tmp_path), UNIT, table([]), ends)
    footer = read_footer(unit_uri(str(tmp_path), UNIT_ID))
    assert footer.unit_id == UNIT_ID
    assert [end.message for end in footer.outcomes] == [text.replace("\ud83d", "?")] * 2


def test_a_message_keeps_no_secret(tmp_path: Path):
    ends = [outcome(one, RejectCode.UNREACHABLE, "no answer of s3://key:hunter2@bucket/a") for one in (B, A)]
    write_unit(str(tmp_path), UNIT, table([]), ends)
    footer = read_footer(unit_uri(str(tmp_path), UNIT_ID))
    assert [end.message for end in footer.outcomes] == ["no answer of s3://***@bucket/a"] * 2


def test_a_footer_longer_than_the_first_read_is_read_whole(tmp_path: Path):
    unit = WorkUnit(UNIT_ID, tuple(clip(str(index)) for index in range(400)))
    ends = [outcome(clip, RejectCode.CRASHED, message="x" * 500) for clip in unit.clips]
    write_unit(str(tmp_path), unit, table([]), ends)
    assert len(read_footer(unit_uri(str(tmp_path), UNIT_ID)).outcomes) == 400


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all" * 100])
def test_a_file_that_is_not_a_unit_is_called_damaged(tmp_path: Path, content: bytes):
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(DatasetError, match="damaged"):
        read_footer(str(tmp_path / "x.parquet"))


def test_a_foreign_parquet_file_is_recognised(tmp_path: Path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(DatasetError, match="not written by Kinescribe"):
        read_footer(str(tmp_path / "x.parquet"))


def test_clips_without_an_outcome_are_our_own_bug(tmp_path: Path):
    with pytest.raises(AssertionError):
        write_unit(str(tmp_path), UNIT, table(ROWS[:2]), KEPT[:1])
    with pytest.raises(AssertionError):
        write_unit(str(tmp_path), UNIT, table(ROWS[:3]), KEPT)
    assert committed_units(str(tmp_path)) == set()


def test_images_are_stored_as_they_are_and_the_rest_compressed(tmp_path: Path):
    write_unit(str(tmp_path), UNIT, table(ROWS), KEPT)
    group = pq.read_metadata(unit_uri(str(tmp_path), UNIT_ID)).row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    codecs = {column.path_in_schema: column.compression for column in columns}
    encodings = {column.path_in_schema: column.encodings for column in columns}
    assert codecs["source.bytes"] == codecs["target.bytes"] == "UNCOMPRESSED"
    assert codecs["importance.list.element"] == codecs["action"] == "ZSTD"
    assert not any("DICTIONARY" in encoding for encoding in encodings["source.bytes"])


def test_a_scan_takes_the_committed_units_of_the_plan_in_its_order(tmp_path: Path):
    units = build(str(tmp_path), [2, 1, 1, DropReason.STATIC, 3, 1], pending=1)
    (tmp_path / "data" / "foreign.parquet").write_bytes(b"not even parquet")
    expected = [clip.clip_id for unit in units[:2] for clip in unit.clips]
    assert Dataset.open(str(tmp_path)).scan().to_table()["clip_id"].unique().to_pylist() == expected[:3]
    assert Dataset.open(str(tmp_path)).scan().count_rows() == 4


def test_a_scan_of_some_columns_reads_only_them(tmp_path: Path):
    build(str(tmp_path), [2, 1])
    rows = Dataset.open(str(tmp_path)).scan(["action", "motion"]).to_table()
    assert rows.column_names == ["action", "motion"]
    assert rows.num_rows == 3


def test_a_scan_for_a_column_that_an_earlier_version_did_not_write_is_refused(tmp_path: Path):
    (unit,) = build(str(tmp_path), [1])
    pq.write_table(
        table([row(unit.clips[0], 0)]).drop_columns("motion"), unit_uri(str(tmp_path), unit.unit_id)
    )
    with pytest.raises(DatasetError, match="lacks motion: an earlier version wrote it"):
        Dataset.open(str(tmp_path)).scan(["action", "motion"])


def test_a_scan_does_not_read_over_a_bit_that_flipped(tmp_path: Path):
    build(str(tmp_path), [2])
    flip_a_bit(str(tmp_path))
    with pytest.raises(DatasetError, match="CRC checksum verification failed"):
        Dataset.open(str(tmp_path)).scan().to_table()


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_scan_of_half_an_object_gives_a_remedy(tmp_path: Path, keep: float):
    (unit,) = build(str(tmp_path), [2])
    path = Path(unit_uri(str(tmp_path), unit.unit_id))
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(DatasetError, match="`check` says what is damaged"):
        Dataset.open(str(tmp_path)).scan()


def test_a_scan_of_a_run_that_committed_nothing_is_refused(tmp_path: Path):
    build(str(tmp_path), [2, 1], pending=1)
    with pytest.raises(DatasetError, match="no committed unit yet"):
        Dataset.open(str(tmp_path)).scan()


@pytest.mark.parametrize("place", ["local", "store"])
def test_parts_of_a_scan_are_whole_units(place: str, tmp_path: Path, bucket: str):
    dataset = str(tmp_path) if place == "local" else uri.join(bucket, "dataset")
    units = build(dataset, [2, 1, 2, DropReason.STATIC, DropReason.STATIC, 1], clips_per_unit=1)
    parts = list(Dataset.open(dataset).scan(["clip_id"]).parts(2))
    assert len(parts) > 1
    found = pl.concat(parts)
    assert sum(part["object"].n_unique() for part in parts) == found["object"].n_unique()
    assert found["clip_id"].to_list() == [units[i].clips[0].clip_id for i in (0, 0, 1, 2, 2, 5)]
    assert unit_ids(found["object"]).to_list() == [units[i].unit_id for i in (0, 0, 1, 2, 2, 5)]


def test_a_unit_larger_than_a_part_stays_whole(tmp_path: Path):
    build(str(tmp_path), [1, 9, 1], clips_per_unit=1)
    parts = list(Dataset.open(str(tmp_path)).scan(["clip_id"]).parts(3))
    assert 9 in [len(part) for part in parts]
    assert sum(map(len, parts)) == 11


def test_polars_and_pyarrow_read_the_same_rows(tmp_path: Path):
    build(str(tmp_path), [2, RejectCode.MISSING, DropReason.STATIC, RejectCode.TIMEOUT, 1, 3])
    by_polars = pl.scan_parquet(f"{tmp_path}/data/*.parquet").sort("clip_id", "source_time_s").collect()
    by_arrow = (
        Dataset.open(str(tmp_path))
        .scan()
        .to_table()
        .sort_by([("clip_id", "ascending"), ("source_time_s", "ascending")])
    )
    assert by_polars.height == 6
    assert by_polars.to_dicts() == by_arrow.to_pylist()
    assert by_polars["importance"].dtype == pl.List(pl.Float16)


def test_units_live_in_an_object_store_too(bucket: str):
    dataset = uri.join(bucket, "datasets", "one")
    assert committed_units(dataset) == set()
    units = build(dataset, [2, 1, DropReason.STATIC, 3], pending=1)
    assert committed_units(dataset) == {units[0].unit_id}
    assert read_footer(unit_uri(dataset, units[0].unit_id)).outcomes[0].num_triplets == 2
    assert Dataset.open(dataset).scan().to_table().num_rows == 3


texts = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
num_tokens = GRID[0] * GRID[1]
codes = st.lists(st.integers(0, 2**16 - 1), min_size=num_tokens, max_size=num_tokens)
weights = st.lists(st.floats(0, 9, width=16), min_size=num_tokens, max_size=num_tokens)
frames = st.fixed_dictionaries({"bytes": st.binary(max_size=16), "path": st.none() | texts})
any_rows = st.lists(
    st.fixed_dictionaries(
        {
            "triplet_id": st.uuids().map(lambda drawn: drawn.hex),
            "clip_id": st.sampled_from([A.clip_id, B.clip_id]),
            "video": texts,
            "action_class": st.none() | texts,
            "source": frames,
            "target": frames,
            "source_time_s": st.none() | numbers,
            "target_time_s": st.none() | numbers,
            "action": texts,
            "action_logprob": st.none() | numbers,
            "action_tokens": st.none() | st.integers(0, 100),
            "finish_reason": st.none() | texts,
            "importance": st.none() | weights,
            "source_codes": st.none() | codes,
            "target_codes": st.none() | codes,
            "motion": st.none() | numbers,
        }
    ),
    max_size=6,
)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset whose plan is one unit."""
    dataset = str(tmp_path_factory.mktemp("dataset"))
    bind(dataset, run_of([B, A]))
    write_plan(dataset, [UNIT])
    return dataset


@settings(max_examples=40)
@given(rows=any_rows)
def test_whatever_rows_are_committed_are_read_back(planned: str, rows: list[dict[str, Any]]):
    given_rows = pa.Table.from_pylist(
        [{**row, "importance": _half(row["importance"])} for row in rows], schema=SCHEMA
    )
    ends = [outcome(clip, _count(rows, clip) or DropReason.STATIC) for clip in UNIT.clips]
    Path(unit_uri(planned, UNIT_ID)).unlink(missing_ok=True)
    assert write_unit(planned, UNIT, given_rows, ends)
    found = Dataset.open(planned).scan().to_table()
    assert found.schema.equals(SCHEMA)
    assert sorted(map(repr, found.to_pylist())) == sorted(map(repr, given_rows.to_pylist()))
    assert rows_digest(found) == read_footer(unit_uri(planned, UNIT_ID)).digest


def _half(values: list[float] | None) -> list[np.float16] | None:
    return None if values is None else [np.float16(value) for value in values]


def _count(rows: list[dict[str, Any]], clip: Clip) -> int:
    return sum(row["clip_id"] == clip.clip_id for row in rows)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data(), value=any_json)
def test_a_footer_with_another_value_anywhere_is_damaged_or_of_the_right_types(
    data: st.DataObject, value: Any
):
    outcomes = [{**asdict(end), "reason": end.reason and str(end.reason)} for end in KEPT]
    footer: Any = {
        "unit_id": "u",
        "digest": "d",
        "committed_at": "2026-01-01T00:00:00Z",
        "outcomes": outcomes,
        "extra": {"a": "b"},
    }
    place = data.draw(st.sampled_from([*footer, *(("outcomes", key) for key in outcomes[0])]))
    if isinstance(place, tuple):
        outcomes[0][place[1]] = value
    else:
        footer[place] = value
    try:
        read = parse_footer("x", {FOOTER_KEY: json.dumps(footer).encode()})
    except DatasetError:
        return
    assert isinstance(read.unit_id, str)
    assert isinstance(read.digest, str)
    assert isinstance(read.committed_at, datetime)
    for end in read.outcomes:
        assert (type(end.clip_id), type(end.num_triplets), type(end.message)) == (str, int, str)
        assert all(isinstance(count, int) for count in end.pair_drops.values())


@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5)
)
def test_whatever_bytes_a_footer_has_it_is_read_or_called_damaged(
    planned: str, edits: list[tuple[float, int]]
):
    write_unit(planned, UNIT, table(ROWS), KEPT)
    whole = Path(unit_uri(planned, UNIT_ID)).read_bytes()
    size = 8 + int.from_bytes(whole[-8:-4], "little")
    changed = bytearray(whole)
    for place, byte in edits:
        changed[-1 - int(place * size)] = byte
    path = Path(planned, "changed.parquet")
    path.write_bytes(changed)
    with contextlib.suppress(DatasetError):
        assert [end.num_triplets for end in read_footer(str(path)).outcomes]
