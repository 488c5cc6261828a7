"""Names of files and folders: local paths, and URLs of object stores.

A URI without a scheme is a local path. Opens nothing.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from kinescribe.schemas.errors import UserError
from kinescribe.schemas.paths import with_home, without_file_scheme

SCHEMES = ("file", "s3", "gs", "az", "abfs", "hf", "memory")
"""The stores that can be read; chained (`a::b`), shell and web URLs are not among them."""
HUB_BLOB = re.compile(r"/blobs/[0-9a-f]{40,64}$", re.ASCII)
"""The end of the path of a file in a hub's cache, to which the names of models and datasets are links."""
_CHAIN = re.compile(r"::.*://", re.DOTALL)
"""What follows the first link of a chained URL; a key of a bucket may hold `::`."""
EMPTY_NAME = "got an empty name for a file or a folder; is a shell variable unset?"


def scheme(uri: str) -> str:
    """The scheme before `://`, `file` for a plain path."""
    before, separator, _ = uri.partition("://")
    return before if separator else "file"


def is_supported(uri: str) -> bool:
    """Whether the URI names a store that can be read, without a chain (`a://b::c://d`)."""
    return scheme(uri) in SCHEMES and (is_local(uri) or not _CHAIN.search(uri))


def is_local(uri: str) -> bool:
    """Whether the URI is a path on this machine."""
    return scheme(uri) == "file"


def local_path(uri: str) -> Path:
    """The path of a local URI. Raises UserError if it is empty."""
    assert is_local(uri), uri
    if not uri:  # Path("") is the working folder
        raise UserError(EMPTY_NAME)
    return Path(with_home(without_file_scheme(uri)))


def absolute(uri: str) -> str:
    """The URI, which means the same in any working folder."""
    return str(local_path(uri).absolute()) if is_local(uri) else uri


def join(base: str, *parts: str) -> str:
    """A URI below `base`. Raises UserError if `base` is empty."""
    if not base:  # the result would be below the root
        raise UserError(EMPTY_NAME)
    return "/".join([base.rstrip("/"), *parts])


def leads_out_of_folder(path: str) -> bool:
    """Whether a path in a list points outside the list's own folder, judged by its spelling."""
    return Path(path).is_absolute() or ".." in Path(path).parts


def is_below(uri: str, root: str) -> bool:
    """Whether the URI is `root` or below it, judged by its spelling."""
    return uri == root or uri.startswith(root.rstrip("/") + "/")


def relative_uri(uri: str, root: str) -> str:
    """The URI relative to the root: the bare name of a single file, the whole URI if it is elsewhere."""
    if uri == root:
        return posixpath.basename(uri)
    return uri.removeprefix(root.rstrip("/") + "/")
