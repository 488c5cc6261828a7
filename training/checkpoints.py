"""Checkpoints that are whole or not there: written aside, digests, a `COMPLETE` marker, one rename.

    checkpoints/step-00000500/
        state/…         what the engine's ranks wrote
        COMPLETE        digests of every other file

Knows files; nothing of what is in them. `out` is a local folder, or one that all workers share.
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


def named(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps is."""
    return folder / _name(step)


def aside(folder: Path, step: int, attempt: str) -> Path:
    """Where the ranks of one attempt write a step; workers of a dead attempt never write there."""
    return folder / f".{_name(step)}-{attempt}"


def publish(folder: Path, step: int, written: Path, keep: int) -> None:
    """Seal what was written and give it its name, then delete all but the last `keep`. One rank only."""
    (written / MARKER).write_text(json.dumps(_digests(written)))
    for path in [*written.rglob("*"), written]:
        _sync(path)
    final = named(folder, step)
    if final.exists():  # a damaged one, or this run would have started after it
        shutil.rmtree(final)
    written.rename(final)
    _sync(folder)
    for _, old in sorted(_steps(folder))[:-keep]:
        shutil.rmtree(old)
    for left_over in folder.glob(".step-*"):
        shutil.rmtree(left_over, ignore_errors=True)


def newest(folder: Path, say: Callable[[str], None]) -> tuple[int, Path] | None:
    """Step and folder of the newest checkpoint that verifies, None where there is none at all.

    `say` hears of those that don't verify. Raises ModelError where there are only such.
    """
    found = sorted(_steps(folder), reverse=True)
    for step, path in found:
        problem = _problem(path)
        if problem is None:
            return step, path
        say(f"{path} is left out: {problem}")
    if found:
        raise ModelError(
            f"none of the {len(found)} checkpoints in {folder} is whole; restore one, "
            "or remove that folder to start from the first step"
        )
    return None


def _problem(path: Path) -> str | None:
    try:
        recorded = json.loads((path / MARKER).read_text())
    except (OSError, ValueError, RecursionError) as error:
        return f"{MARKER}: {error}"
    if not isinstance(recorded, dict):
        return f"{MARKER} holds no digests"
    found = _digests(path)
    different = sorted(name for name in recorded | found if recorded.get(name) != found.get(name))
    # Quoted, since this is shown on a terminal, and the seal may name anything.
    return f"{', '.join(map(repr, different))} changed since it was written" if different else None


def _steps(folder: Path) -> list[tuple[int, Path]]:
    found = ((re.fullmatch(r"step-([0-9]{8,})", path.name), path) for path in folder.glob("step-*"))
    return [(int(name[1]), path) for name, path in found if name]


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
