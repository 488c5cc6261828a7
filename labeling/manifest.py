"""Manifests: lists of clips in a file of any kind of `tables`, checked whole before anything starts.

Columns: `uri`, and optionally `action_class`, `start_s`, `end_s` (seconds of presentation time) and `id`.
Columns of the user are carried into the dataset if asked for, and ignored otherwise. Does not look at the
videos.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from kinescribe.labeling.tables import local_table, place_of, read_table
from kinescribe.schemas.dataset import carried_type
from kinescribe.schemas.errors import InputError
from kinescribe.schemas.paths import without_file_scheme
from kinescribe.storage import credentials
from kinescribe.storage.clips import ROWS_PER_FRAME

COLUMNS = ("uri", "action_class", "start_s", "end_s", "id")
TIMES = ("start_s", "end_s")
TEXTS = (pl.String, pl.Categorical, pl.Enum, pl.Null)
INDEX = re.compile(r"|Unnamed: \d+|__index_level_\d+__")
"""The names that pandas gives to the column of an index in CSV and Parquet."""

MAX_NAMES = 20
MAX_TEXT_BYTES = 4096
"""A small Parquet file may hold any number of equal rows, of any length."""

LOGGER = logging.getLogger(__name__)


def read_manifest(uri: str, carried: Sequence[str] = ()) -> pl.DataFrame:
    """The rows of a manifest in order, with all of `COLUMNS`, null if absent, and the `carried` columns.

    Raises InputError naming the line (the row, in Parquet) and the remedy.
    """
    with local_table(uri) as path:
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
        self.remedy = remedy

    def rows(
        self, columns: Sequence[str], required: Sequence[str], carried: Sequence[str] = ()
    ) -> pl.DataFrame:
        """The rows in order, with all of `columns`, null if absent, and the `carried` ones as they are.

        Other columns are ignored with a warning. Raises InputError for a missing required or carried column,
        and for a wrong video, time or type.
        """
        rows = read_table(self.uri, self.path)
        self._require_columns(rows, [*required, *carried])
        kept = rows.select(carried)
        self._require_carried_types(kept)
        ignored = [name for name in rows.columns if name not in (*columns, *carried)]
        if ignored := [name for name in ignored if not INDEX.fullmatch(name)]:
            names, known = _names(ignored), ", ".join(columns)
            LOGGER.warning("manifest %s: ignoring %s; known are %s%s", self.uri, names, known, self.remedy)
        rows = rows.with_columns(pl.lit(None).alias(name) for name in columns if name not in rows.columns)
        checked = self._typed(rows, columns).select(columns)
        self._refuse_rows(checked)
        return self._with_paths(checked).hstack(kept)

    def refuse(self, wrong: pl.Series, rule: str, values: pl.Series) -> None:
        """Raises InputError with the rule and the place of the first wrong row, if there is one."""
        index = wrong.fill_null(False).arg_max()
        if index is not None and wrong[index]:
            place = place_of(self.uri, self.path, index)
            raise InputError(f"manifest {self.uri}, {place}: {rule}, got {values[index]!r:.200}")

    def _require_columns(self, rows: pl.DataFrame, names: Sequence[str]) -> None:
        for name in names:
            if name not in rows.columns:
                raise InputError(
                    f"manifest {self.uri}: there is no column {name}, only "
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
            if not (given.dtype.is_numeric() or isinstance(given.dtype, TEXTS)):
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
        self._refuse_zero_bytes(video)
        self.refuse(
            video.str.contains(credentials.CREDENTIALS),
            f"uri {credentials.NO_CREDENTIALS}",
            pl.Series(["***"] * len(rows)),
        )
        self.refuse(~(start.is_finite() & (start >= 0)), "start_s must be at least 0", start)
        after = end.is_finite() & (end > start.fill_null(0))
        self.refuse(~after, "end_s must be greater than start_s (0 if absent)", end)

    def _refuse_zero_bytes(self, video: pl.Series) -> None:
        self.refuse(video.str.contains("\0", literal=True), "uri must not contain a zero byte", video)

    def _with_paths(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with paths in place of `file://` URIs."""
        if not rows["uri"].str.starts_with("file://").any():
            return rows
        video = pl.Series("uri", map(without_file_scheme, rows["uri"].to_list()), pl.String)
        self._refuse_zero_bytes(video)
        return rows.with_columns(video)


def _names(columns: Sequence[str]) -> str:
    """The names of columns in a message; a file may have a million, of any length."""
    shown = ", ".join(f"{name!r:.100}" for name in columns[:MAX_NAMES])
    left = len(columns) - MAX_NAMES
    return f"{shown} and {left:,} more" if left > 0 else shown


def _places(manifest: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Each row's video and window; a video below the manifest's folder by its relative name, as in its id."""
    folder = posixpath.dirname(manifest) + "/"
    video = pl.col("uri").str.strip_prefix(folder).str.replace(r"^(\./)+", "")
    return rows.select(video, pl.col("start_s").fill_null(0), "end_s")
