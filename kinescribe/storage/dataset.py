"""A dataset folder, opened once: its run, its plan and its committed units."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from kinescribe.schemas.codes import fit_of
from kinescribe.schemas.errors import DatasetError
from kinescribe.storage import objects, stores
from kinescribe.storage.plan import Plan, num_retries, plan_uri
from kinescribe.storage.rows import Rows, missing_columns, readable, rows_problem
from kinescribe.storage.run import RunRecord, read_run
from kinescribe.storage.shards import REMEDY, UnitFooter, committed_sizes, read_footer, unit_uri
from kinescribe.storage.threads import map_in_threads


class Dataset:
    """A dataset as it was when it was opened: units that are committed later are not in it.

    `run.json` and the list of committed units are read by `open`, and each plan at its first use; all of them
    once. `committed` maps the ids of the committed units to the sizes of their objects in bytes. `plans` are
    the plan of the run and those of its retries.
    """

    def __init__(self, uri: str, run: RunRecord, committed: Mapping[str, int], plans: Sequence[Plan]) -> None:
        self.uri = uri
        self.run = run
        self.committed = committed
        self.plans = plans

    @classmethod
    def open(cls, source: Source) -> Dataset:
        """Open the dataset at a path or URL; a dataset that is open already is returned as it is.

        Raises DatasetError if the folder is not a dataset.
        """
        if isinstance(source, Dataset):
            return source
        uri = os.fspath(source)
        run = read_run(uri)
        # Units before plans: so each listed unit is in a plan, whatever is planned meanwhile.
        committed = committed_sizes(uri)
        return cls(uri, run, committed, [Plan(plan_uri(uri, retry)) for retry in range(num_retries(uri) + 1)])

    def __str__(self) -> str:
        return self.uri

    def __repr__(self) -> str:
        return f"Dataset({self.uri!r})"

    @cached_property
    def name(self) -> str:
        """The name of the dataset's folder."""
        return self.uri.rstrip("/").rpartition("/")[2] or self.uri

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the dataset's run."""
        return self.run["fingerprint"]

    @property
    def grid(self) -> tuple[int, int]:
        """The (height, width) of the codec's grid, in tokens."""
        height, width = self.run["identity"]["codec.grid"]
        return height, width

    @property
    def codec_id(self) -> str:
        """The id of the codec that the dataset's codes are of."""
        return self.run["identity"]["codec.id"]

    def unit_uri(self, unit_id: str) -> str:
        """The object of a unit."""
        return unit_uri(self.uri, unit_id)

    def read_unit(self, unit_id: str) -> pa.Table:
        """The rows of a unit, in one request."""
        with readable(self):
            file = pa.BufferReader(objects.read_bytes(self.unit_uri(unit_id)))
            rows = pq.read_table(file, page_checksum_verification=True)
            missing = ", ".join(missing_columns(rows.schema))
        if problem := f"it lacks {missing}" if missing else rows_problem(rows, self.grid):
            raise DatasetError(f"{self.unit_uri(unit_id)} cannot be used: {problem}; {REMEDY}")
        return rows

    def footers(self) -> Iterator[tuple[int, UnitFooter]]:
        """The footer of each committed unit, with the number of its retry (0: the first try).

        The last retry comes first, so that what a retry supersedes is known before it is read.
        """
        done = [
            (retry, unit)
            for retry, plan in reversed(list(enumerate(self.plans)))
            for unit in reversed(plan.clips_by_unit)
            if unit in self.committed
        ]
        footers = map_in_threads(read_footer, (self.unit_uri(unit) for _, unit in done))
        yield from zip((retry for retry, _ in done), footers, strict=True)

    def scan(self, columns: Sequence[str] | None = None, units: Set[str] | None = None) -> Rows:
        """The rows of the committed units, or of some of them, lazily, in the plan's order.

        Raises DatasetError if there is no such unit, or if the dataset lacks one of the columns.
        """
        chosen = self.committed.keys() if units is None else units
        names = [self.unit_uri(unit) for plan in self.plans for unit in plan.clips_by_unit if unit in chosen]
        if not names:
            raise DatasetError(
                f"{self.uri} has no committed unit yet; run the command that writes it to the end"
            )
        store, _ = stores.arrow_filesystem(self.uri)
        verifying = pads.ParquetFileFormat(
            default_fragment_scan_options=pads.ParquetFragmentScanOptions(page_checksum_verification=True)
        )
        files = [stores.arrow_filesystem(name)[1] for name in names]
        with readable(self):
            rows = pads.dataset(files, filesystem=store, format=verifying)
            missing = missing_columns(rows.schema)
        if missing:
            raise DatasetError(f"{self.uri} lacks {', '.join(missing)}; `check` names the objects")
        chosen_rows = rows if columns is None else self._only(columns, rows)
        return Rows(self.uri, self.grid, fit_of(self.codec_id), chosen_rows)

    def _only(self, columns: Sequence[str], rows: pads.Dataset) -> pads.Dataset:
        if missing := set(columns) - set(rows.schema.names):
            raise DatasetError(
                f"{self.uri} lacks {', '.join(sorted(missing))}: an earlier version wrote it; "
                "write it again in another folder"
            )
        fields = [rows.schema.field(name) for name in columns]
        return rows.replace_schema(pa.schema(fields, rows.schema.metadata))


Source = str | os.PathLike[str] | Dataset
"""The name of a dataset, or the dataset."""


def open_datasets(sources: Iterable[Source]) -> dict[str, Dataset]:
    """The datasets by the fingerprints of their runs. Raises DatasetError if two have the same run."""
    datasets: dict[str, Dataset] = {}
    for dataset in map(Dataset.open, sources):
        if first := datasets.get(dataset.fingerprint):
            raise DatasetError(f"{first} and {dataset} are the dataset of the same run; name one of them")
        datasets[dataset.fingerprint] = dataset
    return datasets


def no_triplets(datasets: Sequence[Dataset]) -> DatasetError:
    """The error for datasets without rows."""
    names, have = ", ".join(map(str, datasets)), "has" if len(datasets) == 1 else "have"
    is_done = all(
        dataset.committed.keys() >= plan.clips_by_unit.keys()
        for dataset in datasets
        for plan in dataset.plans
    )
    state = "no triplets: all clips were dropped or rejected" if is_done else "no triplets yet"
    return DatasetError(f"{names} {have} {state}; `kinescribe status` shows how the clips ended")
