"""Clips as tables: polars frames, and a temporary file for more clips than fit in memory.

Ten million clips as Python objects would fill the driver's memory; in frames, one after another, they don't.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from kinescribe.schemas.clips import Clip, WorkUnit
from kinescribe.schemas.dataset import carried_type
from kinescribe.storage.plan import DIGESTED, ENCODED, PLAN_SCHEMA, ROWS_PER_FRAME, frames_digest

CLIP_SCHEMA = PLAN_SCHEMA.remove(PLAN_SCHEMA.get_field_index("unit_id"))
_COLUMNS: dict[str, type[pl.DataType]] = {
    "clip_id": pl.String,
    "uri": pl.String,
    "action_class": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "size_bytes": pl.Int64,
}


def frame_of(clips: Iterable[Clip]) -> pl.DataFrame:
    """Clips as rows, a column for each field in its order."""
    rows = [
        (clip.clip_id, clip.uri, clip.action_class, clip.start_s, clip.end_s, clip.size_bytes)
        for clip in clips
    ]
    return pl.DataFrame(rows, _COLUMNS, orient="row")


def clips_of(frame: pl.DataFrame) -> Iterator[Clip]:
    """The rows as clips, without carried columns."""
    return (Clip(*row) for row in frame.select(*_COLUMNS).iter_rows())


def carried_names(frame: pl.DataFrame) -> list[str]:
    """The columns that are carried over from the user's manifest; they follow those of a clip."""
    return [name for name in frame.columns if name not in _COLUMNS]


class StoredClips:
    """The clips of a run in order, in a temporary file that lives as long as this object.

    `carried` has the fields of the columns that are carried over from the user's manifest.
    """

    def __init__(self, frames: Iterable[pl.DataFrame]) -> None:
        self._file = tempfile.TemporaryFile(prefix="kinescribe-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._num = 0
        remaining = iter(frames)
        first = next(remaining, frame_of([]))
        self.carried = pa.schema(map(_carried_field, first.select(carried_names(first)).to_arrow().schema))
        schema = pa.unify_schemas([CLIP_SCHEMA, self.carried])
        with pq.ParquetWriter(self._file, schema, compression="lz4", **ENCODED) as writer:
            for frame in chain([first], remaining):
                writer.write_table(frame.to_arrow().cast(schema))
                self._num += len(frame)

    def __len__(self) -> int:
        return self._num

    def __iter__(self) -> Iterator[Clip]:
        return (clip for frame in self.frames(list(_COLUMNS)) for clip in clips_of(frame))

    @property
    def digest(self) -> str:
        """The `frames_digest` of the clips and their carried columns."""
        return frames_digest(self.frames([*DIGESTED, *self.carried.names]))

    def ids(self) -> Iterator[str]:
        """The ids of the clips, in order."""
        return (clip_id for frame in self.frames(["clip_id"]) for clip_id in frame["clip_id"].to_list())

    def frames(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """The clips, or some of their columns, in parts."""
        for batch in pq.ParquetFile(self._file).iter_batches(ROWS_PER_FRAME, columns=columns):
            yield pl.DataFrame(pa.table(batch))

    def planned(self, unit_ids: Sequence[str], clips_per_unit: int) -> Iterator[pa.Table]:
        """The rows of the plan with these units, in parts."""
        names, first = pl.Series(unit_ids, dtype=pl.String), 0
        schema = pa.unify_schemas([PLAN_SCHEMA, self.carried])
        for frame in self.frames():
            places = pl.int_range(first, first + len(frame), eager=True) // clips_per_unit
            units = names.gather(places).alias("unit_id")
            yield frame.insert_column(0, units).to_arrow().cast(schema)
            first += len(frame)

    def with_columns(self, units: Iterable[WorkUnit]) -> Iterator[WorkUnit]:
        """All units of the run, in order, with their carried columns."""
        if not len(self.carried):
            yield from units
            return
        frames, held = self.frames(self.carried.names), pl.DataFrame()
        for unit in units:
            while len(held) < len(unit.clips):
                held = pl.concat([held, next(frames)]) if len(held) else next(frames)
            yield replace(unit, columns=self._table(held, range(len(unit.clips))))
            held = held.slice(len(unit.clips))

    def looked_up_columns(self, units: Sequence[WorkUnit]) -> list[WorkUnit]:
        """Some units, of any clips of the run, with their carried columns."""
        if not len(self.carried) or not units:
            return list(units)
        wanted = [clip.clip_id for unit in units for clip in unit.clips]
        columns = ["clip_id", *self.carried.names]
        held = pl.concat(frame.filter(pl.col("clip_id").is_in(wanted)) for frame in self.frames(columns))
        places = {clip_id: place for place, clip_id in enumerate(held["clip_id"].to_list())}
        return [
            replace(unit, columns=self._table(held, [places[clip.clip_id] for clip in unit.clips]))
            for unit in units
        ]

    def _table(self, frame: pl.DataFrame, places: Sequence[int]) -> pa.Table:
        # Gathered, as a slice would be pickled with the buffers of the whole frame.
        return frame.select(self.carried.names)[list(places)].to_arrow().cast(self.carried)


def _carried_field(field: pa.Field) -> pa.Field:
    type_ = carried_type(field.type)
    assert type_ is not None, field
    return pa.field(field.name, type_)
