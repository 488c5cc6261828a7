"""Chooses the best of each group of near-duplicate triplets, and lists the groups in a file.

Holds some 150 bytes for each row, whatever is in its columns. Knows how rows are told apart from
`labeling.duplicates`, and where they come from not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kinescribe.labeling.duplicates import duplicate_groups
from kinescribe.schemas.clips import HASH_BYTES
from kinescribe.schemas.dataset import HASHES
from kinescribe.schemas.errors import DatasetError
from kinescribe.storage import objects

COLUMNS = ("triplet_id", "clip_id", *HASHES)
"""What the rows must have besides `score` and `dataset`."""
GROUPS_KEY = b"kinescribe.duplicates"
GROUPS_SCHEMA = pa.schema(
    [
        pa.field("kept", pa.string(), nullable=False),
        pa.field("triplet_id", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ],
    metadata={GROUPS_KEY: b""},
)
"""Each triplet of each group, the kept one too, by the id of the kept one, and the best first."""


class Deduplicated(NamedTuple):
    """Whether each row is kept, in the order of the rows, and the groups in `GROUPS_SCHEMA`."""

    is_kept: NDArray[np.bool_]
    groups: pa.Table

    @property
    def counts(self) -> dict[str, int]:
        """The number of groups, and of triplets in the largest one."""
        sizes = self.groups["kept"].value_counts().field("counts").to_pylist()
        return {"groups": len(sizes), "largest": max(sizes, default=0)}


class _Row(NamedTuple):
    """Arrays with a value for each row: the two halves of its id, its clip, score and dataset, its hashes."""

    id_N2: NDArray[Any]
    clip: NDArray[Any]
    score: NDArray[Any]
    dataset: NDArray[Any]
    hashes_N32: NDArray[Any]
    place: NDArray[Any]


def deduplicate(parts: Iterable[pl.DataFrame]) -> Deduplicated:
    """Of each group of near-duplicates, the row with the highest score is kept, then that of the least id.

    Rows without hashes are kept. The result doesn't depend on the order of the rows.
    """
    collected: list[_Row] = []
    names: list[str] = []
    size = 0
    for part in parts:
        names = names or list(cast("pl.Enum", part.schema["dataset"]).categories)
        collected.append(_collected(part, size))
        size += len(part)
    is_kept = np.ones(size, np.bool_)
    if not size:
        return Deduplicated(is_kept, GROUPS_SCHEMA.empty_table())
    rows = _Row(*map(np.concatenate, zip(*collected, strict=True)))
    collected.clear()
    in_order = np.lexsort((rows.id_N2[:, 1], rows.id_N2[:, 0]))
    rows = _Row(*(values[in_order] for values in rows))
    group = duplicate_groups(rows.hashes_N32, rows.clip)
    best_first = np.lexsort((np.arange(len(group)), -rows.score, group))
    best_first = best_first[np.bincount(group)[group[best_first]] > 1]
    is_first = np.ones(len(best_first), np.bool_)
    is_first[1:] = np.diff(group[best_first]) != 0
    is_kept[rows.place[best_first[~is_first]]] = False
    kept = best_first[is_first][np.cumsum(is_first) - 1]
    columns = [
        pa.array(_hexadecimal(rows.id_N2[kept])),
        pa.array(_hexadecimal(rows.id_N2[best_first])),
        pa.array([names[place] for place in rows.dataset[best_first]], pa.string()),
        pa.array(rows.score[best_first]),
    ]
    groups = pa.Table.from_arrays(columns, schema=GROUPS_SCHEMA)
    order = pl.DataFrame(groups.select(["kept", "score", "triplet_id"])).with_row_index()
    order = order.sort("kept", "score", "triplet_id", descending=[False, True, False])
    return Deduplicated(is_kept, groups.take(order["index"].to_arrow()))


def _collected(part: pl.DataFrame, start: int) -> _Row:
    """The rows that have hashes; `start` is the place of the first row of the part."""
    known = part.with_row_index("place", start).drop_nulls(list(HASHES))
    return _Row(
        np.frombuffer(bytes.fromhex("".join(known["triplet_id"])), ">u8").astype(np.uint64).reshape(-1, 2),
        known["clip_id"].hash().to_numpy(),
        known["score"].to_numpy(),
        known["dataset"].to_physical().cast(pl.UInt32).to_numpy(),
        np.stack([_halves(known[name]) for name in HASHES], axis=1),
        known["place"].cast(pl.Int64).to_numpy(),
    )


def _halves(hashes: pl.Series) -> NDArray[np.uint64]:
    """The two halves of each hash, shape (N, 2)."""
    return np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, HASH_BYTES // 8)


def _hexadecimal(ids_N2: NDArray[np.uint64]) -> list[str]:
    text = ids_N2.astype(">u8").tobytes().hex()
    return [text[start : start + 32] for start in range(0, len(text), 32)]


def groups_uri(selection: str) -> str:
    """The file with the groups, beside the selection."""
    return f"{selection.removesuffix('.parquet')}-duplicates.parquet"


def require_groups(target: str) -> None:
    """Raises DatasetError if `target` exists and is another kind of file."""
    if not objects.exists(target):
        return
    try:
        schema = pq.read_schema(pa.BufferReader(objects.read_bytes(target)))
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        schema = pa.schema([])
    if GROUPS_KEY not in (schema.metadata or {}):
        raise DatasetError(
            f"{target} exists and is not a list of duplicates; remove it, or name another --out"
        )


def write_groups(target: str, groups: pa.Table) -> None:
    """Publish the groups in one step, in place of earlier ones."""
    sink = pa.BufferOutputStream()
    pq.write_table(groups, sink, compression="zstd")
    objects.replace(target, sink.getvalue().to_pybytes())
