"""The rows of a dataset's committed units, read lazily and checked as they are read.

A dataset may come from strangers. Whatever reads its rows can rely on the form of ids, which become names of
files, on the shapes of codes and importance, and on images that are there. Errors become a DatasetError.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs
import pyarrow.parquet as pq

from kinescribe.schemas.clips import HASH_BYTES, ID
from kinescribe.schemas.codes import Fit
from kinescribe.schemas.dataset import FIELDS, HASHES, IMAGE, OPTIONAL_FIELDS, SHARES
from kinescribe.schemas.errors import DatasetError

OBJECT = "__filename"
"""pyarrow's name for the column with the file of a row."""
UNREADABLE = (
    pa.ArrowException,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    OSError,
    UnicodeDecodeError,
)
"""What readers raise for a damaged file."""
MOST_HELD = 1000
"""Batches that are held as they were read."""
TOKENS = ("importance", "source_codes", "target_codes")
"""Columns with a value for each image token."""


class Rows:
    """Rows of the dataset `name`: `grid` is the (height, width) of its codec in tokens, `fit` what that sees.

    Raises DatasetError if a column has another type than in `schemas.dataset`.
    """

    def __init__(self, name: str, grid: tuple[int, int], fit: Fit, rows: pads.Dataset) -> None:
        self._name = name
        self.grid = grid
        self.fit: Fit = fit
        self._rows = rows
        if problem := schema_problem(rows.schema):
            raise self._damaged(problem)

    @property
    def schema(self) -> pa.Schema:
        """The columns, and the metadata of the first unit."""
        return self._rows.schema

    @property
    def files(self) -> list[str]:
        """The paths of the units' objects in their store."""
        return self._rows.files

    def count_rows(self) -> int:
        """The number of rows."""
        with readable(self._name):
            return self._rows.count_rows()

    def head(self, num: int) -> pa.Table:
        """The first `num` rows."""
        with readable(self._name):
            return self._checked(self._rows.head(num))

    def to_table(self, columns: Sequence[str] | None = None, filter: pc.Expression | None = None) -> pa.Table:
        """All rows, or those that pass the filter."""
        with readable(self._name):
            # Cached metadata of a million units would fill the memory.
            scanner = self._rows.scanner(
                columns=columns and list(columns), filter=filter, cache_metadata=False
            )
            return self._checked(scanner.to_table())

    def units(
        self,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,
        paths: Collection[str] | None = None,
    ) -> Iterator[tuple[str, Callable[[], pa.Table]]]:
        """For each unit, or those of some paths, its path and a function that reads its rows."""
        for fragment in self._rows.get_fragments():
            if paths is None or fragment.path in paths:
                yield fragment.path, self._reader(fragment, columns, filter)

    def parts(self, num_rows: int) -> Iterator[pl.DataFrame]:
        """The rows in order, in parts of whole units: about `num_rows`, or one larger unit.

        The column `object` is the path of each row's unit, from which `unit_ids` gets the id.
        """
        held: list[pl.DataFrame] = []
        size = 0
        is_local = isinstance(self._rows.filesystem, pyarrow.fs.LocalFileSystem)
        with readable(self._name):
            for batch in _local_batches(self._rows) if is_local else _batches(self._rows):
                if "triplet_id" in batch.columns:
                    self._require(_ids_problem(batch["triplet_id"].to_arrow()))
                for field in OPTIONAL_FIELDS:
                    if field.name in batch.columns:
                        values = batch[field.name].to_arrow(compat_level=pl.CompatLevel.oldest())
                        self._require(_optional_problem(values, field.name))
                held.append(batch)
                size += len(batch)
                if len(held) == MOST_HELD:  # a copy: a small unit's rows hold many times their size
                    held = [pl.concat(held, rechunk=True)]
                if size > num_rows:
                    part = pl.concat(held)
                    # The next batch may have more rows of the last unit.
                    is_last = pl.col("object") == part["object"][-1]
                    held = [part.filter(is_last)]
                    size = len(held[0])
                    if size < len(part):
                        yield part.filter(~is_last)
            if held:
                yield pl.concat(held)

    def _reader(
        self, fragment: pads.Fragment, columns: Sequence[str] | None, filter: pc.Expression | None
    ) -> Callable[[], pa.Table]:
        names, schema = columns and list(columns), self._rows.schema

        def read() -> pa.Table:
            with readable(self._name):
                # Cached metadata of a million units would fill the memory.
                options = {"schema": schema, "columns": names, "filter": filter, "cache_metadata": False}
                return self._checked(fragment.to_table(**options))

        return read

    def _checked(self, table: pa.Table) -> pa.Table:
        self._require(rows_problem(table, self.grid))
        return table

    def _require(self, problem: str | None) -> None:
        if problem:
            raise self._damaged(problem)

    def _damaged(self, problem: str) -> DatasetError:
        return DatasetError(f"{self._name} cannot be used: {problem}; `check` names the objects")


@contextmanager
def readable(dataset: object) -> Generator[None]:
    """In the block, an error from reading the dataset becomes a DatasetError."""
    try:
        yield
    except UNREADABLE as error:
        raise DatasetError(f"{dataset} cannot be read: {error}; `check` says what is damaged") from error


def unit_ids(objects: pl.Series) -> pl.Series:
    """The ids of the units in these objects."""
    return objects.str.extract(r"([^/]+)\.parquet$")


def schema_problem(schema: pa.Schema) -> str | None:
    """What is wrong with the types of a dataset's columns, None if nothing is; columns may be left out."""
    for field in (*FIELDS, *OPTIONAL_FIELDS):
        if field.name in schema.names and schema.field(field.name).type != field.type:
            return f"column {field.name} has the type {schema.field(field.name).type}, not {field.type}"
    return None


def missing_columns(schema: pa.Schema) -> list[str]:
    """The columns that every dataset has, and this schema lacks."""
    needed = [field.name for field in FIELDS if not field.nullable or field.type == IMAGE]
    return [name for name in needed if name not in schema.names]


def rows_problem(table: pa.Table, grid: tuple[int, int]) -> str | None:
    """What is wrong with rows, as far as their columns are there; None if nothing is."""
    if problem := schema_problem(table.schema):
        return problem
    try:
        table.validate(full=True)  # texts that are not UTF-8 make polars panic
    except pa.ArrowInvalid as error:
        return str(error)
    for field in FIELDS:
        if field.name not in table.column_names:
            continue
        for values in table[field.name].chunks:
            if problem := _problem(field, values, grid):
                return f"{field.name} {problem}"
    for field in OPTIONAL_FIELDS:
        if field.name in table.column_names and (problem := _optional_problem(table[field.name], field.name)):
            return f"{field.name} {problem}"
    if "triplet_id" in table.column_names:
        return _ids_problem(table["triplet_id"])
    return None


def _problem(field: pa.Field, values: Any, grid: tuple[int, int]) -> str | None:
    """What is wrong with an array of a column."""
    if field.type == IMAGE and not values.null_count:
        values = values.field("bytes")
    if values.null_count and (not field.nullable or pa.types.is_binary(values.type) or field.type == IMAGE):
        return "is missing in a row"
    if field.name not in TOKENS:
        return None
    height, width = grid
    lengths = set(values.drop_null().value_lengths().unique().to_pylist())
    if wrong := lengths - {height * width}:
        return f"has {min(wrong)} values in a row, where the codec has {height}×{width} tokens"
    tokens = values.flatten()
    if tokens.null_count:
        return "has missing values"
    if field.name == "importance":
        weights = tokens.to_numpy(zero_copy_only=False)
        if not (np.isfinite(weights) & (weights >= 0)).all():
            return "has values that are negative or no finite numbers"
    return None


def _optional_problem(values: Any, name: str) -> str | None:
    """What is wrong with the values of a column that datasets may lack; any may be missing."""
    known = values.drop_null()
    if pa.types.is_string(known.type):
        return None
    if pa.types.is_list(known.type):
        images = pc.call_function("list_flatten", [known])
        data = pc.call_function("struct_field", [images], pc.StructFieldOptions("bytes"))
        return "lacks an image in a row" if data.null_count else None
    if name in HASHES:
        lengths = set(pc.call_function("binary_length", [known]).unique().to_pylist())
        wrong = lengths - {HASH_BYTES}
        return f"has {min(wrong)} bytes in a row, not {HASH_BYTES}" if wrong else None
    numbers = known.to_numpy()
    if not (np.isfinite(numbers) & (numbers >= 0)).all():
        return "has values that are negative or no finite numbers"
    return "has values above 1" if name in SHARES and (numbers > 1).any() else None


def _ids_problem(ids: pa.Array | pa.ChunkedArray) -> str | None:
    has_form = pc.call_function("match_substring_regex", [ids], pc.MatchSubstringOptions(ID))
    right = pc.fill_null(has_form, False)
    wrong = ids.filter(pc.call_function("invert", [right]))
    return f"triplet_id {wrong[0].as_py()!r:.80} is not 32 hexadecimal digits" if len(wrong) else None


def polars_rows(table: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    """Rows of a stranger's file.

    Raises pa.ArrowInvalid for texts and UnicodeDecodeError for names that are not UTF-8: polars would panic.
    """
    table.validate(full=True)
    return pl.DataFrame(table.replace_schema_metadata().rename_columns(table.schema.names))


def _local_batches(rows: pads.Dataset) -> Iterator[pl.DataFrame]:
    """The same as `_batches`, without a dataset's work for each file: small ones take half of the time.

    Polars would take a quarter, but a damaged file can make it end the process, and it checks no checksums.
    """
    names = rows.schema.names
    for path in rows.files:
        with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            table = file.read(names, use_threads=False)
        if missing := sorted({*names} - {*table.column_names}):
            raise pa.ArrowInvalid(f"{path} lacks {', '.join(missing)}")
        if problem := schema_problem(table.schema):
            raise pa.ArrowInvalid(f"{path}: {problem}")
        if len(table):
            yield polars_rows(table).with_columns(object=pl.lit(path))


def _batches(rows: pads.Dataset) -> Iterator[pl.DataFrame]:
    for batch in rows.scanner(cache_metadata=False).scan_batches():
        yield polars_rows(pa.table(batch.record_batch)).with_columns(object=pl.lit(batch.fragment.path))
