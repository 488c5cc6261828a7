"""The videos of a folder, a glob or a bucket: which files are taken, which links followed, what is left out.

Names files only; does not open them.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import PurePosixPath

from kinescribe.schemas.errors import InputError
from kinescribe.storage import listing, stores
from kinescribe.storage.listing import FileInfo, ForbiddenFolder, LocalFile
from kinescribe.storage.uri import is_below, is_local, local_path, relative_uri

_EXTENSIONS = """
264 265 266 360 3g2 3gp 3gp2 3gpp amv apng asf avc avi avif divx dv dvr-ms evo f4v flv gif gifv glv h264
h265 h266 hevc insv ismv ivf lrf lrv m1v m2p m2t m2ts m2v m4v mj2 mjpeg mjpg mk3d mkv mod mov mp2v mp4
mp4v mpe mpeg mpg mpg4 mpv mqv mts mxf nut obu ogm ogv ogx osv qt rm rmvb tod tp trp ts vdr vob vro vvc
webm wm wmv y4m
"""
VIDEOS = frozenset(f".{extension}" for extension in _EXTENSIONS.split())
"""Extensions of the files that are taken from a folder; a file that is named itself is always taken."""
MOST_NAMED = 5
LOGGER = logging.getLogger(__name__)


def real_paths(root: str, roots: Sequence[str]) -> list[str]:
    """The folders, with all links followed, in which local files of an input may be."""
    return [os.path.realpath(local_path(name)) for name in (root, *roots) if is_local(name)]


def videos_below(root: str, roots: Sequence[str]) -> list[FileInfo]:
    """The videos below a folder by their names, without hidden ones. Warns of what is left out.

    Linked folders are followed into `root` and `roots`. Raises InputError if one leads elsewhere.
    """
    if is_local(root):
        files = _allowed(root, roots, lambda link: True)
    else:
        files = [info for info in listing.list_files(root) if not _is_hidden(relative_uri(info.uri, root))]
    videos = [info for info in files if _extension(info) in VIDEOS]
    _report_others(root, Counter(map(_extension, files)))
    _report_links(videos, real_paths(root, roots))
    return videos


def matching_files(pattern: str, roots: Sequence[str]) -> list[FileInfo]:
    """The files that match a glob pattern; links are followed as in `videos_below`."""
    root, matches = listing.glob_root(pattern), stores.glob_pattern(pattern).match
    if not is_local(root):
        return [info for info in listing.list_files(root) if matches(info.uri)]
    files = _allowed(root, roots, partial(_may_match_below, pattern), every_name=True)
    found = {info.path: info for info in reversed(files) if matches(info.uri)}
    _report_links(found.values(), real_paths(root, roots))
    return [*found.values()]


def _allowed(
    root: str, roots: Sequence[str], is_needed: Callable[[str], bool], every_name: bool = False
) -> list[LocalFile]:
    """The files below `root`. Raises InputError if a linked folder that is needed leads elsewhere."""
    tops = real_paths(root, roots)
    files, outside = list[LocalFile](), list[ForbiddenFolder]()
    for info in listing.list_tree(root, lambda path: _is_in(path, tops), every_name):
        if isinstance(info, LocalFile):
            files.append(info)
        elif is_needed(info.uri):
            outside.append(info)
    if outside:
        named = sorted(outside, key=lambda link: link.uri)[:MOST_NAMED]
        links = ", ".join(f"{link.uri} to {link.leads_to}" for link in named)
        options = " ".join(f"--root {shlex.quote(link.leads_to)}" for link in named)
        more = f" and {len(outside) - len(named):,} more" if len(outside) > len(named) else ""
        raise InputError(
            f"linked folders lead outside the input: {links}{more}; add {options} to take the videos there "
            "too, or remove the links"
        )
    return files


def _is_in(path: str, folders: Iterable[str]) -> bool:
    return any(is_below(path, folder) for folder in folders)


def _may_match_below(pattern: str, folder: str) -> bool:
    """Whether a glob pattern may match files below a folder."""
    parts, names = pattern.split("/"), folder.split("/")
    for part, name in zip(parts, names, strict=False):
        if part == "**":
            return True
        if not stores.glob_pattern(part).fullmatch(name):
            return False
    return len(parts) > len(names)


def _is_hidden(relative: str) -> bool:
    return any(part.startswith(".") for part in relative.split("/"))


def _extension(info: FileInfo) -> str:
    return PurePosixPath(info.uri).suffix.lower()


def _report_others(root: str, extensions: Counter[str]) -> None:
    """Warn of files that do not end like a video's name, with how many there are of each ending."""
    others = Counter[str]()
    for extension, num in extensions.items():
        if extension not in VIDEOS:
            others[extension if re.fullmatch(r"\.\w{1,10}", extension, re.ASCII) else "others"] += num
    if not others:
        return
    most = sorted(others.items(), key=lambda item: (item[0] == "others", -item[1], item[0]))
    named = [f"{num:,} {extension}" for extension, num in most[:MOST_NAMED]]
    more = sum(num for _, num in most[MOST_NAMED:])
    if more:
        named.append(f"{more:,} others")
    num_files = f"{others.total():,} file{'s' if others.total() > 1 else ''}"
    LOGGER.warning("%s: left out %s: %s", root, num_files, ", ".join(named))


def _report_links(videos: Iterable[FileInfo], tops: Sequence[str]) -> None:
    """Warn of links to files elsewhere, each of which will be a reject."""
    links = [
        (info.uri, info.leads_to)
        for info in videos
        if isinstance(info, LocalFile) and info.leads_to and not _is_in(info.leads_to, tops)
    ]
    if links:
        link, target = min(links)
        LOGGER.warning(
            "linked files outside the input: %s, such as %s, which leads to %s; each will be rejected as "
            "forbidden unless its folder is allowed, for example by --root %s",
            f"{len(links):,}",
            link,
            target,
            shlex.quote(os.path.dirname(target)),  # noqa: PTH120
        )
