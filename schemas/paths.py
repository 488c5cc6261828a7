"""Paths as users type them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote


def with_home(path: str) -> str:
    """The path with the home folder in place of a first `~`, which a shell leaves in `--out=~/dataset`."""
    return str(Path.home()) + path[1:] if path == "~" or path.startswith("~/") else path


def without_file_scheme(uri: str) -> str:
    """The URI, or the path of a `file://` URI, in which `Path.as_uri()` writes percent codes."""
    return unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri
