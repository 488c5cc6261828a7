"""Which files are below a folder, on a local disk or in an object store."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinescribe.schemas.errors import StoreError
from kinescribe.storage.stores import open_store
from kinescribe.storage.uri import is_local, join, local_path


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file in a listing; `size_bytes` is None if it is unknown, as for a dangling link."""

    uri: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class LocalFile(FileInfo):
    """A file in a local tree; `path` is its place, and `leads_to` the real path of a link, else None."""

    path: str
    leads_to: str | None = None


@dataclass(frozen=True, slots=True)
class ForbiddenFolder:
    """A link to a folder that was not entered, and the folder's real path."""

    uri: str
    leads_to: str


def list_files(uri: str, prefix: str = "") -> Iterator[FileInfo]:
    """All files below `uri` in any order, or the file itself; nothing if `uri` does not exist.

    Links to folders are listed as files without a size. `prefix` limits the listing of an object store to
    names that start with it; on a local disk it has no effect.
    """
    if is_local(uri):
        yield from _walk(uri)
        return
    with open_store(uri) as (store, path):
        try:
            files: dict[str, dict[str, Any]] = store.find(path, detail=True, prefix=prefix)
        except FileNotFoundError as error:  # only a missing bucket raises; a missing folder is empty
            raise StoreError(f"{uri} cannot be listed: {error}; name an existing bucket") from error
    for name, info in files.items():
        yield FileInfo(uri.rstrip("/") + name.removeprefix(path.rstrip("/")), info["size"])


def list_tree(
    uri: str, may_enter: Callable[[str], bool], every_name: bool = False
) -> Iterator[LocalFile | ForbiddenFolder]:
    """All files below a local folder and below the links in it, in any order.

    A link to a folder is followed if `may_enter` its real path. Each folder is listed once, if possible under
    its own name and not a link's, and what is hidden is left out. With `every_name`, hidden files are listed,
    and so is a folder under the name of each link to it.
    """
    entered = set[str]()
    trees = deque([(uri, os.path.realpath(local_path(uri)))])
    while trees:
        links: list[tuple[str, str]] = []
        folders = [trees.popleft()]
        while folders:
            name, folder = folders.pop()
            if folder in entered and not every_name:
                continue
            entered.add(folder)
            for entry in _entries(folder, every_name):
                below = _as_text(join(name, entry.name))
                if entry.is_dir(follow_symlinks=False):
                    folders.append((below, entry.path))
                elif entry.is_symlink() and os.path.isdir(entry.path):  # noqa: PTH112 (it raises nothing)
                    links.append((below, entry.path))
                else:
                    leads_to = os.path.realpath(entry.path) if entry.is_symlink() else None
                    yield LocalFile(below, local_size(entry.path), entry.path, leads_to)
        for below, link in sorted(links):
            target = os.path.realpath(link)
            if not may_enter(target):
                yield ForbiddenFolder(below, target)
            elif link not in entered:  # a link to a folder above it would never end
                entered.add(link)
                trees.append((below, target))


def _entries(folder: str, hidden: bool) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if hidden or not entry.name.startswith(".")]


def glob_root(pattern: str) -> str:
    """The folder above the first wildcard of a glob pattern."""
    fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return fixed.rpartition("/")[0] or ("/" if fixed.startswith("/") else ".")


def local_size(path: str) -> int | None:
    """The size of a local file in bytes, None if it cannot be read."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 (a Path takes twice as long as the call)
    except OSError:
        return None


def _walk(uri: str) -> Iterator[FileInfo]:
    root = local_path(uri)
    if root.is_file():
        yield FileInfo(uri, root.stat().st_size)
    if not root.is_dir():
        return
    for folder, subfolders, names in os.walk(root, onerror=_raise):
        below = Path(folder).relative_to(root).as_posix()
        prefix = uri if below == "." else join(uri, below)
        links = [name for name in subfolders if Path(folder, name).is_symlink()]
        yield from (FileInfo(_as_text(join(prefix, name)), None) for name in links)
        yield from (FileInfo(_as_text(join(prefix, name)), local_size(f"{folder}/{name}")) for name in names)


def _as_text(name: str) -> str:
    """A name whose bytes are not UTF-8 gets replacement characters, so no file will be found under it."""
    return os.fsencode(name).decode(errors="replace")


def _raise(error: OSError) -> None:
    raise error
