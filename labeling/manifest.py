"""Manifests: tables of clips in Parquet, CSV or JSON lines, checked whole before anything starts.

Columns: `uri`, and optionally `action_class`, `start_s`, `end_s` (seconds of presentation time) and
`id`. Knows nothing of where a URI leads.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path, PurePosixPath

import polars as pl

from schemas.errors import InputError
from storage import uri as files

COLUMNS = ("uri", "action_class", "start_s", "end_s", "id")
TIMES = ("start_s", "end_s")
PASSWORD = r"://[^/@]*:[^/@]*@"

Line = tuple[str, int]
MANIFESTS: dict[str, Line] = {".csv": ("line", 2), ".jsonl": ("line", 1), ".parquet": ("row", 1)}
"""The kinds of manifest; what a row is called in each, and the number of the first."""


def read_manifest(uri: str) -> pl.DataFrame:
    """The rows of a manifest in their order, with all of `COLUMNS`, null where not given.

    Raises InputError naming the line (the row, in Parquet) and the remedy.
    """
    with files.local_copy(uri) as path:
        rows = _read(path, uri)
    line = MANIFESTS[PurePosixPath(uri).suffix.lower()]
    _refuse_columns(rows, uri)
    rows = rows.with_columns(pl.lit(None).alias(name) for name in COLUMNS if name not in rows.columns)
    checked = _typed(rows, uri, line).select(COLUMNS)
    _refuse_rows(checked, uri, line)
    return checked


def _read(path: Path, uri: str) -> pl.DataFrame:
    kind = PurePosixPath(uri).suffix.lower()
    try:
        if kind == ".csv":
            return pl.read_csv(path, infer_schema=False)
        if kind == ".jsonl":
            return pl.read_ndjson(path, infer_schema_length=None)
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        where = _bad_csv_line(path) if kind == ".csv" else _bad_json_line(path) if kind == ".jsonl" else ""
        raise InputError(f"manifest {uri} cannot be read: {where or error}") from error


def _bad_json_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip() and not isinstance(json.loads(line), dict):
                    return f"line {number} is not a JSON object; write one object per line"
            except json.JSONDecodeError as error:
                return f"line {number} is not JSON ({error.msg}); write one object per line"
    return ""


def _bad_csv_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace", newline="") as lines:
        table = csv.reader(lines)
        width = len(next(table, []))
        for row in table:
            if len(row) > width:
                return (
                    f"line {table.line_num} has {len(row)} fields, the header {width}; quote commas in values"
                )
    return "" if width else "it is empty; its first line must name the columns"


def _refuse_columns(rows: pl.DataFrame, uri: str) -> None:
    known = ", ".join(COLUMNS)
    unknown = [name for name in rows.columns if name not in COLUMNS]
    if unknown:
        raise InputError(
            f"manifest {uri}, line 1: unknown columns {', '.join(unknown)}; remove or rename them ({known})"
        )
    if "uri" not in rows.columns:
        raise InputError(f"manifest {uri}, line 1: there is no column uri; name one of its columns uri")


def _typed(rows: pl.DataFrame, uri: str, line: Line) -> pl.DataFrame:
    for name in COLUMNS:
        kind, wanted = (pl.Float64, "a number of seconds") if name in TIMES else (pl.String, "text")
        given = rows[name]
        if (
            given.dtype.is_nested()
            or given.dtype.is_temporal()
            or isinstance(given.dtype, pl.Boolean | pl.Binary)
        ):
            raise InputError(f"manifest {uri}: column {name} must hold {wanted}, got {given.dtype}")
        rows = rows.with_columns(given.cast(kind, strict=False))
        _refuse(given.is_not_null() & rows[name].is_null(), f"{name} must be {wanted}", given, uri, line)
    return rows


def _refuse_rows(rows: pl.DataFrame, uri: str, line: Line) -> None:
    video, start, end = rows["uri"], rows["start_s"], rows["end_s"]
    _refuse(video.fill_null("") == "", "uri must name a video", video, uri, line)
    _refuse(
        video.str.contains(PASSWORD),
        "uri must hold no password; give it by the store's environment variables",
        pl.Series(["***"] * len(rows)),
        uri,
        line,
    )
    _refuse(~(start.is_finite() & (start >= 0)), "start_s must be at least 0", start, uri, line)
    after = end.is_finite() & (end > start.fill_null(0))
    _refuse(~after, "end_s must be greater than start_s (0 if absent)", end, uri, line)
    given = rows["id"].is_not_null()
    _refuse(given & rows["id"].is_duplicated(), "id must be unique", rows["id"], uri, line)
    same = rows.select("uri", *TIMES).is_duplicated()
    _refuse(
        ~given & same, "a video and window must be listed once, or each time with an id", video, uri, line
    )


def _refuse(wrong: pl.Series, rule: str, values: pl.Series, uri: str, line: Line) -> None:
    index = wrong.fill_null(False).arg_max()
    if index is not None and wrong[index]:
        what, first = line
        raise InputError(f"manifest {uri}, {what} {first + index}: {rule}, got {values[index]!r}")
