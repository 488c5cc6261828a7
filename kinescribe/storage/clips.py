"""Clips as tables: polars frames, and a temporary file for more clips than fit in memory.

Ten million clips as Python objects would fill the driver's memory; in frames, one after another, they don't.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from kinescribe.schemas.clips import Clip
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
    """The rows as clips."""
    return (Clip(*row) for row in frame.iter_rows())


class StoredClips:
    """The clips of a run in order, in a temporary file that lives as long as this object."""

    def __init__(self, frames: Iterable[pl.DataFrame]) -> None:
        self._file = tempfile.TemporaryFile(prefix="kinescribe-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._num = 0
        with pq.ParquetWriter(self._file, CLIP_SCHEMA, compression="lz4", **ENCODED) as writer:
            for frame in frames:
                writer.write_table(frame.to_arrow().cast(CLIP_SCHEMA))
                self._num += len(frame)

    def __len__(self) -> int:
        return self._num

    def __iter__(self) -> Iterator[Clip]:
        return (clip for frame in self.frames() for clip in clips_of(frame))

    @property
    def digest(self) -> str:
        """The clips' `plan_digest`."""
        return frames_digest(self.frames(DIGESTED))

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
        for frame in self.frames():
            places = pl.int_range(first, first + len(frame), eager=True) // clips_per_unit
            units = names.gather(places).alias("unit_id")
            yield frame.insert_column(0, units).to_arrow().cast(PLAN_SCHEMA)
            first += len(frame)
