"""Lists of clips as people write them: CSV, TSV, JSON, JSON lines, Parquet, and text with a name per line.

Reads each kind as a table and says on which line of it something is wrong. Does not know what columns mean.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, cast

import polars as pl
import pyarrow.parquet as pq

from kinescribe.labeling.video_folders import VIDEOS
from kinescribe.schemas.errors import InputError
from kinescribe.storage import objects
from kinescribe.storage.clips import ROWS_PER_FRAME
from kinescribe.storage.rows import UNREADABLE, polars_rows

SEPARATORS = {".csv": ",", ".tsv": "\t"}
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Endings of files with columns; .gz may follow all but .parquet."""
KINDS = (*TABLES, ".json", ".txt")
"""Endings of all lists of clips."""
MAX_LINE_BYTES = 1 << 20
"""Parsers take twenty times the memory of a line."""
MAX_ROWS = 100_000_000
MAX_UNPACKED_BYTES = 1 << 30
BOM = b"\xef\xbb\xbf"
BLANKS = " \t\r\n"
COMMENT = "#"
LIST = "give a list of objects with a uri, or of names"
SEPARATOR_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
csv.field_size_limit(1 << 30)  # polars has no limit, and csv only finds the line of a row that it read


def kind_of(uri: str) -> str | None:
    """The kind of a list by its ending, without `.gz`; None if it is not one of `KINDS`."""
    name = PurePosixPath(uri).name.lower()
    unpacked = PurePosixPath(name.removesuffix(".gz"))
    kind = unpacked.suffix
    if kind not in KINDS or (kind == ".parquet" and unpacked.name != name):
        return None
    return ".jsonl" if kind == ".ndjson" else kind


@contextmanager
def local_table(uri: str) -> Generator[Path]:
    """The list as a local file, downloaded and unpacked if need be. Raises OSError and InputError."""
    with objects.local_copy(uri) as path:
        if not uri.lower().endswith(".gz"):
            yield path
            return
        with objects.unpacked(path, uri, MAX_UNPACKED_BYTES) as table:
            yield table


def read_table(uri: str, path: Path) -> pl.DataFrame:
    """The rows of the list `uri`, read from `path`; names alone become a column `uri`.

    Raises InputError with the line, or the item of JSON, and the remedy.
    """
    kind = kind_of(uri)
    if kind in (*SEPARATORS, ".jsonl", ".txt") and (line := _endless_line(path)):
        raise InputError(
            f"manifest {uri}, line {line}: it has more than {MAX_LINE_BYTES >> 20} MiB; "
            "is this a list of videos?"
        )
    if kind in SEPARATORS and (problem := _wrong_separator(path, SEPARATORS[kind])):
        raise InputError(f"manifest {uri}, line 1: {problem}")
    try:
        match kind:
            case ".csv" | ".tsv":
                return pl.read_csv(path, infer_schema=False, separator=SEPARATORS[kind])
            case ".jsonl":
                return _line_rows(path)
            case ".json":
                return _listed_rows(uri, path)
            case ".txt":
                return _named_rows(uri, path, _names(path))
            case _:
                return _parquet_rows(uri, path)
    except (*UNREADABLE, json.JSONDecodeError, RecursionError, UnicodeEncodeError) as error:
        where = _bad_line(kind, path) or f"{error}; write it again, with values of one type in each column"
        raise InputError(f"manifest {uri} cannot be read: {where}") from error


def place_of(uri: str, path: Path, index: int) -> str:
    """Where the row `index` stands in a file."""
    match kind_of(uri):
        case ".csv" | ".tsv" as kind:
            return f"line {_csv_line(path, index, SEPARATORS[kind])}"
        case ".jsonl":
            return f"line {_text_line(path, index)}"
        case ".txt":
            return f"line {_text_line(path, index, COMMENT)}"
        case ".json":
            return f"item {index + 1}"
        case _:
            return f"row {index + 1}"


def _wrong_separator(path: Path, separator: str) -> str | None:
    """What is wrong with a header that lacks the separator of its kind, None if nothing is."""
    with path.open("rb") as file:
        header = next((line for line in file if line.strip()), b"").decode(errors="replace")
    if "\r" in header.rstrip("\r\n"):
        return "its lines end in \\r alone; save it with \\n or \\r\\n at the end of each line"
    if separator in header:
        return None
    for other, name in SEPARATOR_NAMES.items():
        if other in header:
            right = SEPARATOR_NAMES[separator]
            kind = next((f", or name it {kind}" for kind, known in SEPARATORS.items() if known == other), "")
            return f"its columns are separated by {name}; use {right}{kind}"
    return None


def _line_rows(path: Path) -> pl.DataFrame:
    """The objects of JSON lines; polars stops at a byte order mark."""
    with path.open("rb") as file:
        has_mark = file.read(len(BOM)) == BOM
        return pl.read_ndjson(file.read() if has_mark else path, infer_schema_length=None)


def json_bytes(uri: str, path: Path) -> bytes:
    """A JSON list without its byte order mark. Raises InputError if it is too large."""
    if path.stat().st_size > objects.MAX_LIST_BYTES:
        raise InputError(f"{uri} has more than {objects.MAX_LIST_BYTES >> 20} MiB; split it")
    return path.read_bytes().removeprefix(BOM)


def _listed_rows(uri: str, path: Path) -> pl.DataFrame:
    """The items of a JSON list: objects, or names alone."""
    items = json.loads(json_bytes(uri, path))
    if not isinstance(items, list):
        raise InputError(f"manifest {uri} is not a JSON list; {LIST}")
    rows = cast("list[Any]", items)
    if all(isinstance(row, str) for row in rows):
        return _named_rows(uri, path, rows)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"manifest {uri}, item {number}: it is not an object; {LIST}")
    return pl.read_ndjson("\n".join(map(json.dumps, rows)).encode(), infer_schema_length=None)


def _names(path: Path) -> list[str]:
    """The lines of a text file, without blank ones and comments."""
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        stripped = (line.strip(BLANKS) for line in lines)
        return [name for name in stripped if name and not name.startswith(COMMENT)]


def _named_rows(uri: str, path: Path, names: list[str]) -> pl.DataFrame:
    """The names as rows. Raises InputError if one does not end like a video: it is a list of other things."""
    for index, name in enumerate(names):
        if PurePosixPath(name).suffix.lower() not in VIDEOS:
            raise InputError(
                f"manifest {uri}, {place_of(uri, path, index)}: {name!r:.200} does not end like a video's "
                f"name; give names of videos alone, or a table ({', '.join(TABLES)}) with a column uri"
            )
    return pl.DataFrame({"uri": names})


def _parquet_rows(uri: str, path: Path) -> pl.DataFrame:
    """The rows, read by pyarrow: polars ends the process at some damaged files."""
    with pq.ParquetFile(path) as file:
        if not 0 <= (num_rows := file.metadata.num_rows) <= MAX_ROWS:
            raise InputError(f"manifest {uri} has {num_rows:,} rows; split it, {MAX_ROWS:,} at most")
        parts = [polars_rows(batch) for batch in file.iter_batches(ROWS_PER_FRAME)]
        return pl.concat(parts) if parts else polars_rows(file.schema_arrow.empty_table())


def _csv_line(path: Path, index: int, separator: str) -> int:
    """The line on which a row of a CSV file begins; values in quotes may hold line breaks."""
    with path.open(encoding="utf-8", errors="replace", newline="") as lines:
        table = csv.reader(lines, delimiter=separator)
        next(filter(None, table))  # the header, which may come after blank lines
        for _ in islice(table, index):
            pass
        return table.line_num + 1


def _text_line(path: Path, index: int, comment: str | None = None) -> int:
    """The line of a row; blank lines and comments are not rows."""
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        stripped = ((number, line.strip(BLANKS)) for number, line in enumerate(lines, 1))
        rows = (number for number, line in stripped if line and not (comment and line.startswith(comment)))
        return next(islice(rows, index, None))


def _endless_line(path: Path) -> int | None:
    """The number of the first line that fills a whole block of `MAX_LINE_BYTES`, None if there is none."""
    line = 1
    with path.open("rb") as file:
        while len(block := file.read(MAX_LINE_BYTES)) == MAX_LINE_BYTES:
            if not (breaks := block.count(b"\n")):
                return line
            line += breaks
    return None


def _bad_line(kind: str | None, path: Path) -> str:
    """What is wrong with the first bad line of a file that could not be read; empty if that is unknown."""
    match kind:
        case ".csv" | ".tsv":
            return _bad_text_line(path) or _bad_csv_line(path, SEPARATORS[kind])
        case ".jsonl":
            return _bad_text_line(path) or _bad_json_line(path)
        case ".json":
            return _bad_text_line(path) or _bad_json(path)
        case ".txt":
            return _bad_text_line(path)
        case _:
            return ""


def _bad_text_line(path: Path) -> str:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"line {number} is not UTF-8; save it in that encoding"
    return ""


def _bad_json(path: Path) -> str:
    try:
        json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        return f"line {error.lineno} is not JSON ({error.msg}); {LIST}"
    except RecursionError:
        return f"it is nested too deeply; {LIST}"
    return ""


def _bad_json_line(path: Path) -> str:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip() and not isinstance(json.loads(line), dict):
                    return f"line {number} is not a JSON object; write one object per line"
            except json.JSONDecodeError as error:
                return f"line {number} is not JSON ({error.msg}); write one object per line"
            except RecursionError:
                return f"line {number} is nested too deeply; write one flat object per line"
    return "" if path.stat().st_size else "it is empty; write one object per line"


def _bad_csv_line(path: Path, separator: str) -> str:
    with path.open(encoding="utf-8", newline="") as lines:
        table = csv.reader(lines, delimiter=separator, strict=True)
        begin, width = 1, 0
        try:
            width = len(next(table, []))
            begin = table.line_num + 1
            for row in table:
                if len(row) > width:
                    return (
                        f"line {begin} has {len(row)} fields, the header {width}; "
                        f"quote {SEPARATOR_NAMES[separator]} in values"
                    )
                begin = table.line_num + 1
        except csv.Error as error:
            return f"the row that begins on line {begin} is not CSV ({error}); close and double its quotes"
    return "" if width else "it is empty; its first line must name the columns"
