"""A selection: triplets chosen from one or more datasets, in order, as one small Parquet file.

It refers to rows by the fingerprint of their dataset's run, the id of their unit and their own id, and does
not contain them. Knows whether a dataset has the rows, but not how they were chosen, nor what for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kinescribe.schemas.clips import stable_id
from kinescribe.schemas.errors import DatasetError
from kinescribe.storage import objects
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.shards import rows_digest

SELECTION_KEY = b"kinescribe.selection"
SELECTION_SCHEMA = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field("triplet_id", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("action_class", pa.string()),
    ]
)


@dataclass(frozen=True)
class Selection:
    """Rows in `SELECTION_SCHEMA`, the best first, and the options by which they were chosen.

    `datasets` are the fingerprints of all runs that were chosen from, sorted.
    """

    rows: pa.Table
    options: Mapping[str, Any]
    datasets: tuple[str, ...]

    @property
    def digest(self) -> str:
        """A hash of rows, options and datasets."""
        return stable_id(self._description(), rows_digest(self.rows))

    def _description(self) -> str:
        return json.dumps({"options": self.options, "datasets": self.datasets}, sort_keys=True)

    def to_parquet(self) -> bytes:
        """The selection as the bytes of its file."""
        sink = pa.BufferOutputStream()
        described = self.rows.replace_schema_metadata({SELECTION_KEY: self._description()})
        pq.write_table(described, sink, compression="zstd")
        return sink.getvalue().to_pybytes()


def write_selection(target: str, selection: Selection) -> None:
    """Publish a selection in one step. Raises DatasetError if another file has that name."""
    if objects.create(target, selection.to_parquet()):
        return
    with suppress(DatasetError):
        if read_selection(target).digest == selection.digest:
            return
    raise _taken(target)


def require_selection(target: str, options: Mapping[str, Any], datasets: tuple[str, ...]) -> None:
    """Raises DatasetError if `target` is a file other than a selection with these options and datasets.

    The sources may have more rows since that selection was made: this is only known after choosing.
    """
    if not objects.exists(target):
        return
    with suppress(DatasetError):
        existing = read_selection(target)
        if (existing.options, existing.datasets) == (options, datasets):
            return
    raise _taken(target)


def _taken(target: str) -> DatasetError:
    return DatasetError(f"{target} exists and is not this selection; name another file, or remove this one")


def read_selection(source: str) -> Selection:
    """The selection in a file. Raises DatasetError if the file is not a selection."""
    remedy = "name a file that `kinescribe curate` wrote"
    try:
        table = pq.read_table(pa.BufferReader(objects.read_bytes(source)))
        described = json.loads((table.schema.metadata or {})[SELECTION_KEY])
        table.validate(full=True)
        rows = table.replace_schema_metadata()
        if not rows.schema.equals(SELECTION_SCHEMA):
            raise DatasetError(f"{source} has the columns {rows.column_names}, not a selection's; {remedy}")
        return Selection(rows, described["options"], tuple(described["datasets"]))
    except OSError as error:
        raise DatasetError(f"{source} cannot be read: {error}; {remedy}") from error
    except (
        pa.ArrowException,
        json.JSONDecodeError,
        UnicodeError,
        RecursionError,
        KeyError,
        TypeError,
    ) as error:
        raise DatasetError(f"{source} is not a selection ({error!r}); {remedy}") from error


def chosen_units(dataset: Dataset, chosen: pa.Table) -> set[str]:
    """The units of the rows chosen from a dataset. Raises DatasetError if it lacks one of them."""
    units = set(chosen["unit_id"].to_pylist())
    if missing := sorted(units - dataset.committed.keys()):
        raise DatasetError(
            f"the selection names {len(missing)} units that {dataset} lacks, first {missing[0]}; "
            "curate it again"
        )
    return units


def require_chosen(dataset: Dataset, chosen: pa.Table, found: pa.Array | pa.ChunkedArray) -> None:
    """Raises DatasetError if a chosen triplet is not among the ids `found` in its dataset."""
    if missing := sorted(set(chosen["triplet_id"].to_pylist()) - set(found.to_pylist())):
        raise DatasetError(
            f"{dataset} lacks {len(missing)} of its chosen triplets, first {missing[0]}; curate it again"
        )
