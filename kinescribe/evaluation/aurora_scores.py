"""What was measured on AURORA-Bench as means: by subset, by motion half, over runs. Knows no files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kinescribe.evaluation.aurora_data import SUBSETS, LeftOut

MODEL, COPY = "model", "copy"
JUDGE = "judge"
ALL, MORE, LESS = "all", "more motion", "less motion"
GROUPS = (ALL, *SUBSETS, MORE, LESS)


@dataclass(frozen=True, slots=True)
class Measured:
    """One image: whose it is, in which run, of which case, and its values by metric.

    `judge` is among them only where a judge was asked and gave scores.
    """

    row: str
    run: int
    case: str
    task: str
    half: str
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """The mean of the runs' means, their standard deviation (None for one run), and how many images count."""

    mean: float
    std: float | None
    num: int


@dataclass(frozen=True, slots=True)
class AuroraScores:
    """By row (the model, a copy of the source), then by group, then by metric."""

    scores: dict[str, dict[str, dict[str, Spread]]]
    judge_failures: dict[str, int]
    """Replies of the judge that count for nothing, by what was wrong."""
    left_out: list[LeftOut]


def halves(motion: Sequence[float]) -> list[str]:
    """The half that each case is in: the more it moves; of an odd number, the one between moves less."""
    order = np.argsort(motion, kind="stable")
    more = {int(place) for place in order[(len(order) + 1) // 2 :]}
    return [MORE if place in more else LESS for place in range(len(order))]


def score_measured(
    measured: Sequence[Measured], judge_failures: Counter[str], left_out: Sequence[LeftOut]
) -> AuroraScores:
    """Means over the images of each row and group; "all" is over images, not over subsets."""
    rows: defaultdict[str, defaultdict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for one in measured:
        for group in (ALL, one.task, one.half):
            rows[one.row][group].append(one)
    scores = {
        row: {group: _spreads(groups[group]) for group in GROUPS if group in groups}
        for row, groups in rows.items()
    }
    return AuroraScores(scores, dict(judge_failures), list(left_out))


def _spreads(measured: Sequence[Measured]) -> dict[str, Spread]:
    metrics = dict.fromkeys(metric for one in measured for metric in one.values)
    return {metric: _spread(metric, measured) for metric in metrics}


def _spread(metric: str, measured: Sequence[Measured]) -> Spread:
    runs: defaultdict[int, list[float]] = defaultdict(list)
    for one in measured:
        if metric in one.values:
            runs[one.run].append(one.values[metric])
    means = [np.mean(values) for values in runs.values()]
    std = float(np.std(means, ddof=1)) if len(means) > 1 else None
    return Spread(float(np.mean(means)), std, sum(map(len, runs.values())))
