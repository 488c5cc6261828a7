"""Paths as users type them."""

from __future__ import annotations

from pathlib import Path


def with_home(path: str) -> str:
    """The path with the home folder in place of a first `~`, which a shell leaves in `--out=~/dataset`."""
    return str(Path.home()) + path[1:] if path == "~" or path.startswith("~/") else path
