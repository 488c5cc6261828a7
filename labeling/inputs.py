"""The user's input as a list of clips: a file, folder, glob, object store or manifest.

An input that is wrong as a whole is refused here, before anything starts; a single wrong clip (missing,
outside the input) becomes a reject when it is extracted. Does not look inside videos.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

import polars as pl

from kinescribe.labeling.manifest import COLUMNS, TIMES, read_manifest
from kinescribe.labeling.tables import KINDS, TABLES, kind_of
from kinescribe.labeling.units import cut_windows
from kinescribe.labeling.video_folders import matching_files, real_paths, videos_below
from kinescribe.schemas.clips import Clip, stable_id
from kinescribe.schemas.config import Limits
from kinescribe.schemas.dataset import FIELD_NAMES
from kinescribe.schemas.errors import InputError, StoreError
from kinescribe.schemas.paths import without_file_scheme
from kinescribe.storage import credentials, listing, objects
from kinescribe.storage.clips import ROWS_PER_FRAME, carried_names, clips_of, frame_of
from kinescribe.storage.plan import PLAN_COLUMNS
from kinescribe.storage.threads import map_in_threads
from kinescribe.storage.uri import (
    SCHEMES,
    absolute,
    is_below,
    is_local,
    is_supported,
    join,
    local_path,
    relative_uri,
)

OUTSIDE = (
    "a path or a link that leaves the input's folder; to allow it, name the folder it leads to by --root"
)
SPLITS = frozenset(("train", "val", "test", "training", "validation", "testing"))
"""Folder names of the parts of a corpus, which are not action classes."""
RESERVED = FIELD_NAMES | {*COLUMNS, *PLAN_COLUMNS, "object", "__filename"}
"""Names that a carried column may not have: those of the dataset, the manifest, the plan and scans."""
OTHER_LISTS = frozenset(
    (
        ".arrow",
        ".feather",
        ".gz",
        ".ods",
        ".pkl",
        ".tar",
        ".tgz",
        ".xls",
        ".xlsx",
        ".xml",
        ".yaml",
        ".yml",
        ".zip",
    )
)
"""Extensions of files that may list or hold videos. A file with any other is taken for a video."""
MOST_FAILURES = 3
PROBED_BYTES = 16 << 20
"""Smaller files are rarely longer than a window, and probing each would take longer than labelling it."""


def list_clips(
    input: str,
    limits: Limits,
    duration_of: Callable[[Clip], float | None] | None = None,
    roots: Sequence[str] = (),
) -> list[Clip]:
    """The clips of an input in a fixed order, long ones cut into windows.

    `duration_of` probes the duration in seconds of files that may be read and are large enough to be long,
    one after another. Raises InputError if the input is wrong as a whole.
    """
    return [clip for frame in clip_frames(input, limits, duration_of, roots) for clip in clips_of(frame)]


def clip_frames(
    input: str,
    limits: Limits,
    duration_of: Callable[[Clip], float | None] | None = None,
    roots: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Iterator[pl.DataFrame]:
    """The same as frames (`storage.clips`), with `columns` of the manifest."""
    may_not = partial(forbidden, root=input_root(input), roots=roots)
    for frame in _listed(input, roots, columns):
        span_s = pl.col("end_s") - pl.col("start_s").fill_null(0.0)
        is_short = frame.select((span_s <= limits.window_s).fill_null(False).all()).item()
        yield frame if is_short else _windows(frame, may_not, limits, duration_of)


def _windows(
    frame: pl.DataFrame,
    may_not: Callable[[str], str | None],
    limits: Limits,
    duration_of: Callable[[Clip], float | None] | None,
) -> pl.DataFrame:
    """The clips cut into windows, each with the carried columns of its clip."""
    rows = list(_windowed(list(clips_of(frame)), may_not, limits, duration_of))
    windows = frame_of(clip for _, clip in rows)
    if not (carried := carried_names(frame)):
        return windows
    return windows.hstack(frame.select(carried)[[index for index, _ in rows]])


def _listed(input: str, roots: Sequence[str], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The clips as the input names them. Raises InputError if there are none."""
    num_clips = 0
    try:
        for frame in _frames(absolute_input(input), roots, columns):
            num_clips += len(frame)
            yield frame
    except OSError as error:
        raise InputError(f"{input} cannot be listed: {error}; check its name and your permissions") from error
    if not num_clips:
        raise InputError(f"{input} contains no video; give a file, folder, glob, URL or manifest with videos")


def input_root(input: str) -> str:
    """The folder that clips of this input must not leave; for a single video, the video itself."""
    input = absolute_input(input)
    if _is_glob(input):
        return listing.glob_root(input)
    return posixpath.dirname(input) if _is_manifest(input) else input


def forbidden(uri: str, root: str, roots: Sequence[str] = ()) -> str | None:
    """Why a clip of an input with this root must not be read, None if it may be.

    A local file must be below the root, or below another of `roots`, after all links are followed: a list
    from elsewhere must not make the reader's own files part of a dataset. Only a manifest can name stores.
    """
    if "\0" in uri:
        return "a name with a zero byte"
    if not is_supported(uri):
        return f"a chained URL, or none of {', '.join(SCHEMES)}"
    if not is_local(uri):
        return "a path that leads upwards by '..'" if ".." in uri.split("/") else None
    path = os.path.realpath(local_path(uri))
    return None if any(is_below(path, top) for top in real_paths(root, roots)) else OUTSIDE


def outside(uri: str, root: str, roots: Sequence[str] = ()) -> str | None:
    """Why a file must not be read if only these folders may be, None if it may be."""
    if why := forbidden(uri, root, roots):
        return why
    return None if is_local(uri) or is_below(uri, root) else OUTSIDE


def absolute_input(uri: str) -> str:
    """The input's name, which means the same in any working folder. Raises InputError for credentials."""
    if credentials.holds_credentials(uri):
        raise InputError(f"the input's URL {credentials.NO_CREDENTIALS}")
    return absolute(uri)


def _is_glob(uri: str) -> bool:
    return re.search(r"[*?\[]", uri) is not None and not (is_local(uri) and objects.exists(uri))


def _is_manifest(uri: str) -> bool:
    return kind_of(uri) is not None and objects.is_file(uri)


def _frames(input: str, roots: Sequence[str], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    root = input_root(input)
    if _is_manifest(input):
        yield from _manifest_frames(input, root, columns)
        return
    if columns:
        raise InputError(
            f"columns {', '.join(columns)} cannot be carried from {input}: it is not a manifest "
            f"({', '.join(KINDS)}); leave out --columns"
        )
    clips = _file_clips(_found(input, root, roots), root)
    while chunk := list(islice(clips, ROWS_PER_FRAME)):
        yield frame_of(chunk)


def _found(input: str, root: str, roots: Sequence[str]) -> Sequence[listing.FileInfo]:
    """The files of the input that are clips."""
    if _is_glob(input):
        return matching_files(input, roots)
    if objects.is_file(input):
        _refuse_other_lists(input)
        return list(listing.list_files(input))
    if is_local(input) and not Path(input).exists():
        raise InputError(f"{input} does not exist; check its spelling")
    return videos_below(root, roots)


def _refuse_other_lists(input: str) -> None:
    """Raises InputError for a file that may be a list, but of a kind that is not read."""
    suffix = PurePosixPath(input).suffix.lower()
    if suffix in OTHER_LISTS:
        raise InputError(
            f"{input} is no video, and no list of clips that is read: give {', '.join(TABLES)} or .json with "
            "a column uri, or .txt with a name per line; all but .parquet may be gzipped (.csv.gz)"
        )


def _file_clips(found: Sequence[listing.FileInfo], root: str) -> Iterator[Clip]:
    for info in sorted(found, key=lambda info: info.uri):
        relative = relative_uri(info.uri, root)
        yield Clip(stable_id(relative, None, None), info.uri, _class_of(relative), size_bytes=info.size_bytes)


def _class_of(relative: str) -> str | None:
    """The action class from a file's path below the input: the name of its only folder, besides a split's.

    This is the layout of UCF-101 (CLASS/NAME), Kinetics-700 and Moments in Time (SPLIT/CLASS/NAME).
    """
    folders = PurePosixPath(relative).parts[:-1]
    if len(folders) == 2 and folders[0] in SPLITS:
        return folders[1]
    return folders[0] if len(folders) == 1 and folders[0] not in SPLITS else None


def _manifest_frames(manifest: str, root: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    if clashes := sorted({*columns} & RESERVED):
        raise InputError(
            f"columns {', '.join(clashes)} cannot be carried: the dataset has columns of these names; "
            f"rename them in {manifest}"
        )
    for rows in read_manifest(manifest, columns).iter_slices(ROWS_PER_FRAME):
        uris = [uri_in(root, uri) for uri in rows["uri"].to_list()]
        places = zip(uris, *(rows[name].to_list() for name in (*TIMES, "id")), strict=True)
        ids = [
            clip_id or stable_id(relative_uri(uri, root), start_s, end_s)
            for uri, start_s, end_s, clip_id in places
        ]
        yield rows.select(
            pl.Series("clip_id", ids),
            pl.Series("uri", uris),
            "action_class",
            *TIMES,
            pl.lit(None, pl.Int64).alias("size_bytes"),
            *columns,
        )


def uri_in(root: str, uri: str) -> str:
    """A URI in a table of the folder `root`, in full."""
    uri = without_file_scheme(uri)
    return uri if "://" in uri or uri.startswith("/") else join(root, uri)


def _windowed(
    clips: list[Clip],
    may_not: Callable[[str], str | None],
    limits: Limits,
    duration_of: Callable[[Clip], float | None] | None,
) -> Iterator[tuple[int, Clip]]:
    """Each window with the index of its clip."""
    durations_s: dict[str, float | None] = {}
    if duration_of:
        clips = _sized(clips, limits.window_s, may_not)
        large = [clip for clip in clips if (clip.size_bytes or 0) > PROBED_BYTES]
        durations_s = {clip.clip_id: duration_of(clip) for clip in large if not may_not(clip.uri)}
    for index, clip in enumerate(clips):
        duration_s = durations_s.get(clip.clip_id)
        end_s = min((end for end in (clip.end_s, duration_s) if end is not None), default=0.0)
        if end_s - (clip.start_s or 0.0) > limits.max_duration_s:
            yield index, clip  # whole, so that extraction rejects it as too_large
        else:
            yield from ((index, window) for window in cut_windows(clip, duration_s, limits.window_s))


def _sized(clips: list[Clip], window_s: float, may_not: Callable[[str], str | None]) -> list[Clip]:
    """The clips; those of a manifest that may be long get the sizes that a listing would have given.

    A store is not asked about a clip that may not be read.
    """
    unsized = [
        index
        for index, clip in enumerate(clips)
        if clip.size_bytes is None
        and (clip.end_s is None or clip.end_s - (clip.start_s or 0.0) > window_s)
        # A local size costs less than following all links, and asks nobody.
        and (is_local(clip.uri) or not may_not(clip.uri))
    ]
    sizes = _Sizes()
    answers = map_in_threads(sizes.of, (clips[index].uri for index in unsized))
    sized = list(clips)
    for index, size in zip(unsized, answers, strict=True):
        sized[index] = replace(clips[index], size_bytes=size)
    if sizes.errors and len(sizes.errors) == len(clips):
        raise sizes.errors[0]
    return sized


class _Sizes:
    """Asks for the sizes of files. A file that can't be reached has none, and becomes a reject later.

    Each such try takes a minute, so a bucket that failed several times and never answered isn't asked again.
    """

    def __init__(self) -> None:
        self.errors: list[StoreError] = []
        self._failures = Counter[str]()
        self._answered: set[str] = set()

    def of(self, uri: str) -> int | None:
        """The size in bytes, None if it is unknown. May be called in many threads."""
        store = "/".join(uri.split("/")[:3])  # SCHEME://BUCKET
        if store not in self._answered and self._failures[store] >= MOST_FAILURES:
            return None
        try:
            size = objects.size_bytes(uri)
        except StoreError as error:
            self.errors.append(error)
            self._failures[store] += 1
            return None
        self._answered.add(store)
        return size
