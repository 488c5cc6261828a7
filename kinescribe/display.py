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
    from evaluation.preference import Preferences
    from evaluation.world import BestOfN, Mean, Score, WorldScores
    from kinescribe.demo import DemoResult


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


def printable(text: object) -> str:
    """The text as a terminal may show it: names of files and words of models must not move its cursor.

    What is no printable character is escaped, line breaks and marks of direction too.
    """
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(text))


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
        print(printable(f"{step['action']}: {chosen}, {out / step['image']}"))
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
    by_verb, words = rates.pop("by_verb"), rates.pop("wording")
    _print_rates("accuracy", rates)
    _print_rows("words", [f"{name:<22}{value:>12.3f}" for name, value in dataclasses.asdict(words).items()])
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


def print_world(scores: WorldScores, as_json: bool) -> None:
    """Print the judge's means by action: the model's, and beside it those of the copy and of the codec."""
    if as_json:
        print(json.dumps(dataclasses.asdict(scores)))
        return
    rows = scores.scores
    print(f"{'':<10}{'':>6}", *(f"{name:^30}" for name in rows), sep="  ")
    print(f"{'':<10}{'cases':>6}", *(f"{'ES':>5}{'ME':>7}{'judge':>10}{'L1':>8}" for _ in rows), sep="  ")
    for action in rows["model"]:
        cells = [scores_of[action] for scores_of in rows.values()]
        print(f"{action:<10}{cells[0].judge.num:>6,}", *map(_score_cell, cells), sep="  ")


def print_best_of_n(result: BestOfN, as_json: bool) -> None:
    """Print the judge's mean for each N, as the dynamics model chooses and as the judge itself would."""
    if as_json:
        print(json.dumps(dataclasses.asdict(result)))
        return
    for name, means in result.judge.items():
        _print_rows(
            f"judge, {name} best of",
            [f"{count:<10}{_mean_text(mean)}  of {mean.num:,} cases" for count, mean in means.items()],
        )


def print_demo(result: DemoResult) -> None:
    """Print the loop in one table: labels, and the world model before and after its fine-tune."""
    labels = {"all labels": result.scores.exact, "the likelier half": result.chosen.exact}
    _print_rates("exact actions", labels)
    rows = [
        f"{name:<26}" + "".join(f"N = {count}: {_mean_text(mean)}    " for count, mean in judged.items())
        for name, judged in (
            ("before the fine-tune", result.before.judge["verified"]),
            ("after", result.after.judge["verified"]),
            ("after, if the judge chose", result.after.judge["oracle"]),
        )
    ]
    cases = next(iter(result.after.judge["verified"].values())).num
    _print_rows(f"world model, judged 0 to 10 in {cases} scenes (a copy of the source gets 0)", rows)


def print_preferences(result: Preferences, as_json: bool) -> None:
    """Print the share of triplets that are likelier than their false twin, by what is false."""
    if as_json:
        print(json.dumps(dataclasses.asdict(result)))
        return
    print(f"{'triplets':<24}{result.triplets:>12,}")
    _print_rates(f"found likelier ({result.task}) than with", result.likelier)


def _score_cell(score: Score) -> str:
    return f"{score.editing:>5.2f}{score.minimal:>7.2f}{score.judge.mean:>10.2f}{score.l1:>8.3f}"


def _mean_text(mean: Mean) -> str:
    error = "" if mean.standard_error is None else f" ± {mean.standard_error:.2f}"
    return f"{mean.mean:>5.2f}{error}"


def _print_rates(title: str, rates: Mapping[str, Rate]) -> None:
    rows = [
        f"{name:<22}{rate.share:>12.3f}  {rate.hits:,} of {rate.total:,}"
        for name, rate in rates.items()
        if rate.total
    ]
    _print_rows(title, rows)


def _print_rows(title: str, rows: list[str]) -> None:
    if rows:
        print(f"{title}:", *map(printable, rows), sep="\n  ")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else printable(value)
