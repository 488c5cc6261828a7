"""Exports that are whole or absent: written to a hidden folder, verified, then renamed to `export`.

A writer locks its hidden folder, and the lock ends with its process. So a later run can tell the folders of
killed processes, which it removes, from that of a live one. Imports torch only to verify.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import safe_open

from kinescribe.storage.folder_lock import folder_lock

EXPORT = "export"


@contextmanager
def publishing(out: Path, attempt: str) -> Generator[Path]:
    """A hidden folder to write to, which becomes `out/export` at the end. One process only."""
    written = out / f".{EXPORT}-{attempt}"
    written.mkdir(parents=True)
    with folder_lock(written):
        yield written
        assert_full(written)
        shutil.rmtree(out / EXPORT, ignore_errors=True)
        written.rename(out / EXPORT)


def remove_abandoned(out: Path) -> None:
    """Remove the hidden folders that no live process is writing to."""
    for folder in out.glob(f".{EXPORT}-*"):
        with suppress(OSError), folder_lock(folder):  # another process holds it, or it has gone
            shutil.rmtree(folder)


def assert_full(folder: Path) -> None:
    """Check that no tensor of any safetensors file is empty: ZeRO-3 has saved such files."""
    files = list(folder.rglob("*.safetensors"))
    assert files, folder
    for path in files:
        with safe_open(path, "pt") as tensors:
            empty = [name for name in tensors.keys() if 0 in tensors.get_slice(name).get_shape()]  # noqa: SIM118
        assert not empty, f"{path} has empty tensors: {empty}"
