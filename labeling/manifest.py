"""Manifests: tables of clips in Parquet, CSV or JSON lines, checked whole before anything starts.

Columns: `uri`, and optionally `action_class`, `start_s`, `end_s` (seconds of presentation time) and `id`.
Columns of the user are carried into the dataset if asked for, and ignored otherwise. Does not look at the
videos.
"""

from __future__ import annotations

import csv
import json
import logging
import posixpath
from collections.abc import Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

import polars as pl
import pyarrow.parquet as pq

from kinescribe.schemas.dataset import carried_type
from kinescribe.schemas.errors import InputError
from kinescribe.storage import credentials, objects
from kinescribe.storage.clips import ROWS_PER_FRAME
from kinescribe.storage.rows import UNREADABLE

COLUMNS = ("uri", "action_class", "start_s", "end_s", "id")
TIMES = ("start_s", "end_s")

MAX_LINE_BYTES = 1 << 20
"""Parsers take twenty times the memory of a line."""
MAX_NAMES = 20
MAX_ROWS = 100_000_000
MAX_TEXT_BYTES = 4096
"""A small Parquet file may hold any number of equal rows, of any length."""
csv.field_size_limit(1 << 30)  # polars has no limit, and csv only finds the line of a row that it read

LOGGER = logging.getLogger(__name__)
MANIFESTS = (".csv", ".jsonl", ".parquet")
"""File extensions of manifests."""


def read_manifest(uri: str, carried: Sequence[str] = ()) -> pl.DataFrame:
    """The rows of a manifest in order, with all of `COLUMNS`, null if absent, and the `carried` columns.

    Raises InputError naming the line (the row, in Parquet) and the remedy.
    """
    with objects.local_copy(uri) as path:
        manifest = Manifest(uri, path, remedy="; --columns NAME,… carries others into the dataset")
        rows = manifest.rows(COLUMNS, required=("uri",), carried=carried).with_columns(
            pl.col(TIMES).abs()
        )  # -0 is 0
        given = rows["id"].is_not_null()
        manifest.refuse(given & rows["id"].is_duplicated(), "id must be unique", rows["id"])
        parts = (_places(uri, part).hash_rows() for part in rows.iter_slices(ROWS_PER_FRAME))
        hashes = pl.concat([pl.Series(dtype=pl.UInt64), *parts]).sort()
        if (hashes == hashes.shift()).any():  # or it would take the memory of all rows once more
            same = _places(uri, rows).is_duplicated()
            rule = "a video and window must be listed once, or each time with an id"
            manifest.refuse(~given & same, rule, rows["uri"])
    return rows


class Manifest:
    """A table of videos, named `uri` in messages and read from `path`."""

    def __init__(self, uri: str, path: Path, remedy: str = "") -> None:
        self.uri = uri
        self.path = path
        self.kind = PurePosixPath(uri).suffix.lower()
        self.remedy = remedy

    def rows(
        self, columns: Sequence[str], required: Sequence[str], carried: Sequence[str] = ()
    ) -> pl.DataFrame:
        """The rows in order, with all of `columns`, null if absent, and the `carried` ones as they are.

        Other columns are ignored with a warning. Raises InputError for a missing required or carried column,
        and for a wrong video, time or type.
        """
        rows = self._read()
        self._require_columns(rows, [*required, *carried])
        kept = rows.select(carried)
        self._require_carried_types(kept)
        if ignored := [name for name in rows.columns if name not in (*columns, *carried)]:
            names, known = _names(ignored), ", ".join(columns)
            LOGGER.warning("manifest %s: ignoring %s; known are %s%s", self.uri, names, known, self.remedy)
        rows = rows.with_columns(pl.lit(None).alias(name) for name in columns if name not in rows.columns)
        checked = self._typed(rows, columns).select(columns)
        self._refuse_rows(checked)
        return checked.hstack(kept)

    def refuse(self, wrong: pl.Series, rule: str, values: pl.Series) -> None:
        """Raises InputError with the rule and the place of the first wrong row, if there is one."""
        index = wrong.fill_null(False).arg_max()
        if index is not None and wrong[index]:
            raise InputError(f"manifest {self.uri}, {self._place(index)}: {rule}, got {values[index]!r:.200}")

    def _read(self) -> pl.DataFrame:
        if self.kind != ".parquet" and (line := _endless_line(self.path)):
            raise InputError(
                f"manifest {self.uri}, line {line}: it has more than {MAX_LINE_BYTES >> 20} MiB; "
                "is this a list of videos?"
            )
        try:
            if self.kind == ".csv":
                return pl.read_csv(self.path, infer_schema=False)
            if self.kind == ".jsonl":
                return pl.read_ndjson(self.path, infer_schema_length=None)
            return _parquet_rows(self.uri, self.path)
        except UNREADABLE as error:
            where = {".csv": _bad_csv_line, ".jsonl": _bad_json_line}.get(self.kind, _nowhere)(self.path)
            where = where or f"{error}; write it again, with values of one type in each column"
            raise InputError(f"manifest {self.uri} cannot be read: {where}") from error

    def _place(self, index: int) -> str:
        if self.kind == ".csv":
            return f"line {_csv_line(self.path, index)}"
        return f"line {_json_line(self.path, index)}" if self.kind == ".jsonl" else f"row {index + 1}"

    def _require_columns(self, rows: pl.DataFrame, names: Sequence[str]) -> None:
        for name in names:
            if name not in rows.columns:
                raise InputError(
                    f"manifest {self.uri}, line 1: there is no column {name}, only "
                    f"{_names(rows.columns) or 'none'}; add it, or rename one of them"
                )

    def _require_carried_types(self, rows: pl.DataFrame) -> None:
        for field in rows.to_arrow().schema:
            if carried_type(field.type) is None:
                raise InputError(
                    f"manifest {self.uri}: column {field.name} cannot be carried into the dataset, as it has "
                    f"the type {field.type}; convert it to text, numbers, timestamps or lists of them"
                )

    def _typed(self, rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
        for name in columns:
            kind, wanted = (pl.Float64, "a number of seconds") if name in TIMES else (pl.String, "text")
            given = rows[name]
            if (
                given.dtype.is_nested()
                or given.dtype.is_temporal()
                or isinstance(given.dtype, pl.Boolean | pl.Binary)
            ):
                raise InputError(
                    f"manifest {self.uri}: column {name} must hold {wanted}, got {given.dtype}; convert it"
                )
            rows = rows.with_columns(given.cast(kind, strict=False))
            self.refuse(given.is_not_null() & rows[name].is_null(), f"{name} must be {wanted}", given)
            if kind == pl.String:
                too_long = rows[name].str.len_bytes() > MAX_TEXT_BYTES
                self.refuse(too_long, f"{name} must have at most {MAX_TEXT_BYTES:,} bytes", rows[name])
        return rows

    def _refuse_rows(self, rows: pl.DataFrame) -> None:
        video, start, end = rows["uri"], rows["start_s"], rows["end_s"]
        self.refuse(video.fill_null("") == "", "uri must name a video", video)
        self.refuse(video.str.contains("\0", literal=True), "uri must not contain a zero byte", video)
        self.refuse(
            video.str.contains(credentials.CREDENTIALS),
            f"uri {credentials.NO_CREDENTIALS}",
            pl.Series(["***"] * len(rows)),
        )
        self.refuse(~(start.is_finite() & (start >= 0)), "start_s must be at least 0", start)
        after = end.is_finite() & (end > start.fill_null(0))
        self.refuse(~after, "end_s must be greater than start_s (0 if absent)", end)


def _names(columns: Sequence[str]) -> str:
    """The names of columns in a message; a file may have a million, of any length."""
    shown = ", ".join(f"{name!r:.100}" for name in columns[:MAX_NAMES])
    left = len(columns) - MAX_NAMES
    return f"{shown} and {left:,} more" if left > 0 else shown


def _places(manifest: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Each row's video and window; a video below the manifest's folder by its relative name, as in its id."""
    folder = posixpath.dirname(manifest) + "/"
    video = pl.col("uri").str.strip_prefix("file://").str.strip_prefix(folder).str.replace(r"^(\./)+", "")
    return rows.select(video, pl.col("start_s").fill_null(0), "end_s")


def _parquet_rows(uri: str, path: Path) -> pl.DataFrame:
    """The rows, read by pyarrow: polars ends the process at some damaged files."""
    with pq.ParquetFile(path) as file:
        if not 0 <= (num_rows := file.metadata.num_rows) <= MAX_ROWS:
            raise InputError(f"manifest {uri} has {num_rows:,} rows; split it, {MAX_ROWS:,} at most")
        parts = [pl.DataFrame(batch) for batch in file.iter_batches(ROWS_PER_FRAME)]
        return pl.concat(parts) if parts else pl.DataFrame(file.schema_arrow.empty_table())


def _csv_line(path: Path, index: int) -> int:
    """The line on which a row of a CSV file begins; values in quotes may hold line breaks."""
    with path.open(encoding="utf-8", errors="replace", newline="") as lines:
        table = csv.reader(lines)
        next(filter(None, table))  # the header, which may come after blank lines
        for _ in islice(table, index):
            pass
        return table.line_num + 1


def _json_line(path: Path, index: int) -> int:
    """The line of a row; blank lines are not rows."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        return next(islice((number for number, line in enumerate(lines, 1) if line.strip()), index, None))


def _endless_line(path: Path) -> int | None:
    """The number of the first line that fills a whole block of `MAX_LINE_BYTES`, None if there is none."""
    line = 1
    with path.open("rb") as file:
        while len(block := file.read(MAX_LINE_BYTES)) == MAX_LINE_BYTES:
            if not (breaks := block.count(b"\n")):
                return line
            line += breaks
    return None


def _bad_text_line(path: Path) -> str:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"line {number} is not UTF-8; save it in that encoding"
    return ""


def _nowhere(_path: Path) -> str:
    return ""


def _bad_json_line(path: Path) -> str:
    if where := _bad_text_line(path):
        return where
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip() and not isinstance(json.loads(line), dict):
                    return f"line {number} is not a JSON object; write one object per line"
            except json.JSONDecodeError as error:
                return f"line {number} is not JSON ({error.msg}); write one object per line"
            except RecursionError:
                return f"line {number} is nested too deeply; write one flat object per line"
    return "" if path.stat().st_size else "it is empty; write one object per line"


def _bad_csv_line(path: Path) -> str:
    if where := _bad_text_line(path):
        return where
    with path.open(encoding="utf-8", errors="replace", newline="") as lines:
        table = csv.reader(lines, strict=True)
        begin, width = 1, 0
        try:
            width = len(next(table, []))
            begin = table.line_num + 1
            for row in table:
                if len(row) > width:
                    return f"line {begin} has {len(row)} fields, the header {width}; quote commas in values"
                begin = table.line_num + 1
        except csv.Error as error:
            return f"the row that begins on line {begin} is not CSV ({error}); close and double its quotes"
    return "" if width else "it is empty; its first line must name the columns"
