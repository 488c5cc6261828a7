"""Checkpoints that are whole or absent: written to a hidden folder, sealed with digests, then renamed.

    checkpoints/step-00000500/
        state/…         the files of the engine's ranks
        COMPLETE        digests of all other files

Knows files; nothing of their content. The folder is local, or shared by all workers.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from kinescribe.schemas.errors import ModelError

MARKER = "COMPLETE"


def checkpoint_folder(folder: Path, step: int) -> Path:
    """The folder of the checkpoint after `step` steps."""
    return folder / _name(step)


def hidden_folder(folder: Path, step: int, attempt: str) -> Path:
    """The hidden folder to which the ranks of one attempt write; each attempt has its own."""
    return folder / f".{_name(step)}-{attempt}"


def publish(folder: Path, step: int, written: Path, keep: int) -> None:
    """Seal and rename what was written, then delete all but the last `keep`. One rank only."""
    (written / MARKER).write_text(json.dumps(_digests(written)))
    for path in [*written.rglob("*"), written]:
        _sync(path)
    final = checkpoint_folder(folder, step)
    if final.exists():  # damaged, or this run would have resumed from it
        shutil.rmtree(final)
    written.rename(final)
    _sync(folder)
    for _, old in sorted(_steps(folder))[:-keep]:
        shutil.rmtree(old)
    for abandoned in folder.glob(".step-*"):
        shutil.rmtree(abandoned, ignore_errors=True)


def newest(folder: Path, say: Callable[[str], None]) -> tuple[int, Path] | None:
    """Step and folder of the newest valid checkpoint, or None if there are no checkpoints.

    `say` is called for each damaged one. Raises ModelError if all are damaged.
    """
    checkpoints = sorted(_steps(folder), reverse=True)
    for step, path in checkpoints:
        problem = _problem(path)
        if problem is None:
            return step, path
        say(f"{path} is skipped: {problem}")
    if checkpoints:
        raise ModelError(
            f"none of the {len(checkpoints)} checkpoints in {folder} is whole; restore one, "
            "or remove that folder to start from the first step"
        )
    return None


def _problem(path: Path) -> str | None:
    try:
        recorded = json.loads((path / MARKER).read_text())
    except (OSError, ValueError, RecursionError) as error:
        return f"{MARKER}: {error}"
    if not isinstance(recorded, dict):
        return f"{MARKER} has no digests"
    actual = _digests(path)
    different = sorted(name for name in recorded | actual if recorded.get(name) != actual.get(name))
    # Quoted, since this is shown on a terminal, and the marker may contain anything.
    return f"{', '.join(map(repr, different))} changed since it was written" if different else None


def _steps(folder: Path) -> list[tuple[int, Path]]:
    matches = ((re.fullmatch(r"step-([0-9]{8,})", path.name), path) for path in folder.glob("step-*"))
    return [(int(name[1]), path) for name, path in matches if name]


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MARKER]
    return {path.relative_to(folder).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
