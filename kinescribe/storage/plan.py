"""The clips of a run, in units: `plan/clips.parquet`, and `plan/retry-0001.parquet` and so on for retries.

Each file is created once and never changes. A retry has units of its own, made of clips that were rejected.
The columns that are carried over from the user's manifest follow those of `PLAN_SCHEMA`.
A plan may have ten million clips, so it is read in batches and never held as Python objects.
"""

from __future__ import annotations

import hashlib
import json
import re
import weakref
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from itertools import chain, count, groupby, islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from kinescribe.schemas.clips import ID, Clip, WorkUnit
from kinescribe.schemas.errors import DatasetError
from kinescribe.storage import listing, objects, uri
from kinescribe.storage.rows import polars_rows
from kinescribe.storage.run import not_a_dataset

PLAN_SCHEMA = pa.schema(
    [
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("action_class", pa.string()),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("size_bytes", pa.int64()),
    ]
)
PLAN_COLUMNS = PLAN_SCHEMA.names
ENCODED: dict[str, Any] = {"use_dictionary": ["unit_id", "action_class", "start_s", "end_s"]}
"""Parquet options: a dictionary of ids and URIs, which don't repeat, would take as long as all the rest."""
DIGESTED = ["clip_id", "action_class", "start_s", "end_s"]
PLAN_LINE = "{}\t{}\t{}\t{}\n"
"""The text that is hashed for each clip."""
ROWS_PER_FRAME = 1 << 16
UNITS_PER_BATCH = 4096


class Plan:
    """The plan of a run or of one retry, in the Parquet file `uri`; on a store it is downloaded once.

    A missing or damaged file is a DatasetError.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @cached_property
    def clips_by_unit(self) -> Counter[str]:
        """The ids of the units in order, and the number of clips of each."""
        clips: Counter[str] = Counter()
        with self._parquet() as plan:
            for batch in plan.iter_batches(columns=["unit_id"]):
                counts = batch.column(0).value_counts()
                clips.update(dict(zip(*(part.to_pylist() for part in counts.flatten()), strict=True)))
        if wrong := next((unit for unit in clips if not re.fullmatch(ID, str(unit))), None):
            raise DatasetError(f"{self.uri} is damaged: {wrong!r:.80} is no unit; restore it from a backup")
        return clips

    def units(self) -> Iterator[WorkUnit]:
        """The units in order, with as many in memory as one batch holds."""
        with self._parquet() as plan:
            rows = (row for batch in plan.iter_batches(columns=PLAN_COLUMNS) for row in batch.to_pylist())
            for unit_id, members in groupby(rows, key=_take_unit_id):
                yield WorkUnit(unit_id, tuple(Clip(**row) for row in members))

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns, one row per clip, in order."""
        with self._parquet() as plan:
            table = plan.read(columns=list(names)).select(list(names))
            table.validate(full=True)  # texts that are not UTF-8 make polars panic
            return table

    def digest(self) -> str:
        """The `frames_digest` of the clips and their carried columns."""
        with self._parquet() as plan:
            carried = [name for name in plan.schema_arrow.names if name not in PLAN_COLUMNS]
            batches = plan.iter_batches(ROWS_PER_FRAME, columns=[*DIGESTED, *carried])
            return frames_digest(polars_rows(pa.table(batch)) for batch in batches)

    @cached_property
    def _path(self) -> Path:
        stack = ExitStack()
        weakref.finalize(self, stack.close)
        return stack.enter_context(objects.local_copy(self.uri))

    @contextmanager
    def _parquet(self) -> Generator[pq.ParquetFile]:
        try:
            with pq.ParquetFile(self._path) as plan:
                for field in PLAN_SCHEMA:
                    if not plan.schema_arrow.field(field.name).equals(field):
                        missing = "" if field.nullable else ", or may lack values"
                        raise TypeError(f"column {field.name} has another type than {field.type}{missing}")
                yield plan
        except FileNotFoundError as error:
            raise not_a_dataset(self.uri.rpartition("/plan/")[0], "plan/clips.parquet") from error
        except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise DatasetError(f"{self.uri} is damaged ({error!r}); restore it from a backup") from error


def plan_uri(dataset: str, retry: int = 0) -> str:
    """The file with the plan of a run (0) or of its nth retry."""
    return uri.join(dataset, "plan", f"retry-{retry:04d}.parquet" if retry else "clips.parquet")


def read_plan(dataset: str, retry: int = 0) -> Iterator[WorkUnit]:
    """The units of a run or of its nth retry, in order."""
    return Plan(plan_uri(dataset, retry)).units()


def num_retries(dataset: str) -> int:
    """How many retries were planned."""
    names = {info.uri for info in listing.list_files(uri.join(dataset, "plan"))}
    return next(retry for retry in count() if plan_uri(dataset, retry + 1) not in names)


def write_plan(dataset: str, units: Sequence[WorkUnit], retry: int = 0) -> None:
    """Write the plan of a run or of its nth retry, unless it exists."""
    remaining = iter(units)
    parts = iter(lambda: list(islice(remaining, UNITS_PER_BATCH)), [])
    tables = (pa.table(_plan_columns(part), schema=PLAN_SCHEMA) for part in parts)
    write_plan_tables(dataset, tables, retry)


def write_plan_tables(dataset: str, tables: Iterable[pa.Table], retry: int = 0) -> None:
    """The same, from the rows of the plan in parts."""
    target = plan_uri(dataset, retry)
    if objects.exists(target):
        return
    remaining = iter(tables)
    first = next(remaining, PLAN_SCHEMA.empty_table())
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, first.schema, compression="zstd", **ENCODED) as writer:
        for rows in chain([first] if len(first) else [], remaining):
            writer.write_table(rows)
    objects.create(target, sink.getvalue().to_pybytes(), aside=uri.join(dataset, ".tmp"))


def plan_digest(clips: Iterable[Clip]) -> str:
    """A hash of the clips in their order; without their URIs, so that the corpus may move."""
    return _digest(
        PLAN_LINE.format(clip.clip_id, clip.action_class, clip.start_s, clip.end_s) for clip in clips
    )


def frames_digest(frames: Iterable[pl.DataFrame]) -> str:
    """The same hash, from the columns `DIGESTED` of the clips in parts; and of carried columns, if any."""
    return _digest("".join(_lines(frame)) for frame in frames)


def _lines(frame: pl.DataFrame) -> pl.Series:
    lines = pl.select(pl.format(PLAN_LINE, *map(_texts, frame.select(DIGESTED)))).to_series()
    carried = frame.drop(DIGESTED)
    if not carried.width:
        return lines
    return lines + pl.Series([json.dumps(row, default=str) + "\n" for row in carried.iter_rows()])


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()


def _texts(values: pl.Series) -> pl.Series:
    """Values as Python writes them; each distinct value is converted once."""
    if values.dtype == pl.String:
        return values.fill_null("None")
    texts = {value: str(value) for value in values.unique()}
    return values.replace_strict(texts, return_dtype=pl.String)


def _plan_columns(units: Sequence[WorkUnit]) -> dict[str, list[Any]]:
    clips = [clip for unit in units for clip in unit.clips]
    columns = {name: [getattr(clip, name) for clip in clips] for name in PLAN_COLUMNS[1:]}
    return {"unit_id": [unit.unit_id for unit in units for _ in unit.clips], **columns}


def _take_unit_id(row: dict[str, Any]) -> str:
    return row.pop("unit_id")
