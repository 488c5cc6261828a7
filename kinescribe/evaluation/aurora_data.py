"""Reads AURORA-Bench as it is published: `test.json` with `instruction`, `input`, `output` and `task`.

There is either one file with the paths below it (`data/ag/images/…`, as in the authors' repository), or a
folder for each subset with its own file. An early version has `prompt` instead of `instruction`. Reads no
images.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kinescribe.schemas.errors import InputError
from kinescribe.storage import objects
from kinescribe.storage.uri import leads_out_of_folder

SUBSETS = ("magicbrush", "ag", "something", "whatsup", "kubric")
"""The five subsets that the paper reports, by their `task`."""


class BenchmarkCase(NamedTuple):
    """A triplet of the benchmark."""

    id: str
    task: str
    action: str
    source: Path
    target: Path


class LeftOut(NamedTuple):
    """An item that cannot be evaluated, and why; or a subset without items."""

    id: str
    reason: str


def read_benchmark(folder: Path) -> tuple[list[BenchmarkCase], list[LeftOut]]:
    """The complete triplets in order, and the items that are left out. Raises InputError."""
    files = [file for file in (folder / "test.json", *sorted(folder.glob("*/test.json"))) if file.is_file()]
    if not files:
        raise InputError(
            f"--data {folder}: found no test.json in it or its folders; name the folder of AURORA-Bench"
        )
    cases, left_out, seen = list[BenchmarkCase](), list[LeftOut](), Counter[str]()
    listed = [(file.parent, item) for file in files for item in _items(file)]
    for root, item in listed:
        task = str(item.get("task", "no task"))
        read = _case(f"{task}-{seen[task]:03}", task, item, root)
        seen[task] += 1
        if isinstance(read, BenchmarkCase):
            cases.append(read)
        else:
            left_out.append(read)
    left_out += [LeftOut(task, "no item of this subset") for task in SUBSETS if not seen[task]]
    if not cases:
        reasons = ", ".join(sorted({left.reason for left in left_out}))
        raise InputError(f"--data {folder}: no triplet is complete: {reasons}; compare it with AURORA-Bench")
    return cases, left_out


def _items(file: Path) -> Iterator[dict[str, Any]]:
    try:
        items = json.loads(objects.read_list(str(file)))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read: {error}; use the file of AURORA-Bench") from error
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(f"{file} is not a list of objects; use the file of AURORA-Bench")
    yield from items


def _case(id: str, task: str, item: dict[str, Any], root: Path) -> BenchmarkCase | LeftOut:
    if task not in SUBSETS:
        return LeftOut(id, "not in a subset that the paper reports")
    words = item.get("instruction") or item.get("prompt")
    if not isinstance(words, str) or not words.strip():
        return LeftOut(id, "no instruction")
    paths = list[Path]()
    for name in ("input", "output"):
        value = item.get(name)
        if not isinstance(value, str) or not value:
            return LeftOut(id, f"no {name}")
        if leads_out_of_folder(value):
            return LeftOut(id, f"{name} outside the benchmark")
        if not objects.is_file(str(root / value)):
            return LeftOut(id, f"{name} is missing")
        paths.append(root / value)
    return BenchmarkCase(id, task, " ".join(words.split()), *paths)
