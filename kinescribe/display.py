"""What the command line prints: results as JSON for machines, as a table for people.

Knows the fields of results, not how they come about.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import DataclassInstance

    from evaluation.labels import LabelScores, Rate


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


def print_result(result: DataclassInstance, as_json: bool) -> None:
    """Print a dataclass as one JSON object, or as lines of name and value."""
    values = dataclasses.asdict(result)
    if as_json:
        print(json.dumps(values))
        return
    for name, value in values.items():
        if isinstance(value, dict):
            _print_rows(name, [f"{key:<22}{count:>12,}" for key, count in value.items()])
        elif isinstance(value, list):
            _print_rows(name, value)
        else:
            print(f"{name:<24}{_text(value):>12}")


def print_imagined(record: Mapping[str, Any], out: Path, as_json: bool) -> None:
    """Print the record of an imagination that lies in `out`: of each step its best sample, and the sheet."""
    if as_json:
        print(json.dumps({"out": str(out), **record}))
        return
    for step in record["steps"]:
        chosen = f"sample {step['best']} of {record['num_samples']}, log p {step['scores'][step['best']]:.2f}"
        print(f"{step['action']}: {chosen}, {out / step['image']}")
    print(f"look at {out / record['sheet']}")


def print_scores(scores: LabelScores, as_json: bool, shown: Mapping[str, int] | None = None) -> None:
    """Print the accuracy of labels: by attribute, by verb, by likelihood, and what is mistaken for what.

    `shown` counts all pairs by what they truly show.
    """
    if as_json:
        print(json.dumps(dataclasses.asdict(scores) | ({"shown": shown} if shown else {})))
        return
    _print_rows(
        "pairs by what they show", [f"{what:<22}{count:>12,}" for what, count in (shown or {}).items()]
    )
    rates = {field.name: getattr(scores, field.name) for field in dataclasses.fields(scores)}
    deciles, confusion = rates.pop("by_decile"), rates.pop("confusion")
    by_verb = rates.pop("by_verb")
    _print_rates("accuracy", rates)
    _print_rates("exact, by verb", by_verb)
    names = (f"tenth {number}" for number in range(1, len(deciles) + 1))
    _print_rates("exact, from the least likely tenth on", dict(zip(names, deciles, strict=True)))
    mistakes = [
        f"{true:<10} taken for {said:<14}{count:>10,}"
        for true, row in confusion.items()
        for said, count in row.items()
        if said != true
    ]
    _print_rows("mistaken verbs", mistakes)


def _print_rates(title: str, rates: Mapping[str, Rate]) -> None:
    rows = [
        f"{name:<22}{rate.share:>12.3f}  {rate.hits:,} of {rate.total:,}"
        for name, rate in rates.items()
        if rate.total
    ]
    _print_rows(title, rows)


def _print_rows(title: str, rows: list[str]) -> None:
    if rows:
        print(f"{title}:", *rows, sep="\n  ")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
