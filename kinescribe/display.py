"""What the command line prints: results as JSON for machines, as a table for people.

Knows only that a result is a dataclass of numbers, words and lists or counts of them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stdout_for_results() -> Generator[None]:
    """Send to stderr what libraries and their child processes print while the block runs."""
    sys.stdout.flush()
    results = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(results, 1)
        os.close(results)


@contextmanager
def counted(things: str) -> Generator[Callable[[int, int], None]]:
    """A bar on stderr that is told how many are done of how many."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bars:
        bar = bars.add_task(things, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def print_result(result: Any, as_json: bool) -> None:
    """Print a dataclass as one JSON object, or as lines of name and value."""
    values = dataclasses.asdict(result)
    if as_json:
        print(json.dumps(values))
        return
    for name, value in values.items():
        if isinstance(value, dict):
            _print_rows(name, [f"{key:<22}{count:>12}" for key, count in value.items()])
        elif isinstance(value, list):
            _print_rows(name, value)
        else:
            print(f"{name:<24}{_text(value):>12}")


def _print_rows(name: str, rows: list[str]) -> None:
    if rows:
        print(f"{name}:", *rows, sep="\n  ")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
