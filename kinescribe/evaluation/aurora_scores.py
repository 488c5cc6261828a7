"""Means of what was measured on AURORA-Bench: by subset, by motion half, over runs. Reads no files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kinescribe.evaluation.aurora_data import SUBSETS, LeftOut
from kinescribe.schemas.rendering import BLUE, ORANGE, Figure, Table, panels

MODEL, COPY = "model", "copy"
JUDGE = "judge"
ALL, MORE, LESS = "all", "more motion", "less motion"
GROUPS = (ALL, *SUBSETS, MORE, LESS)


@dataclass(frozen=True, slots=True)
class MeasuredImage:
    """The values of one image by metric. `judge` is among them only if a judge gave scores."""

    row: str
    run: int
    case: str
    task: str
    half: str
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """The mean of the runs' means, their standard deviation (None for one run), and the number of images."""

    mean: float
    std: float | None
    num: int

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.std is None else f"{self.mean:.3f} ± {self.std:.3f}"


@dataclass(frozen=True, slots=True)
class AuroraScores:
    """By row (the model, a copy of the source), then by group, then by metric."""

    scores: dict[str, dict[str, dict[str, Spread]]]
    judge_failures: dict[str, int]
    """Replies of the judge without a score, by failure."""
    left_out: list[LeftOut]

    @property
    def metrics(self) -> list[str]:
        """The metrics of any row."""
        return list(dict.fromkeys(name for rows in self.scores.values() for name in rows[ALL]))

    def tables(self) -> Iterable[Table]:
        """The means by group, the model's above the copy's, and what was left out."""
        rows = [
            (
                group,
                row,
                f"{max(spread.num for spread in by_group[group].values()):,}",
                *(str(by_group[group].get(metric, "-")) for metric in self.metrics),
            )
            for group in next(iter(self.scores.values()))
            for row, by_group in self.scores.items()
        ]
        yield Table(rows, columns=("group", "of", "images", *self.metrics))
        left_out = Counter(left.reason for left in self.left_out)
        yield Table([(f"{count:,}", reason) for reason, count in left_out.items()], "left out")
        failures = [(f"{count:,}", failure) for failure, count in self.judge_failures.items()]
        yield Table(failures, "replies of the judge without a score")

    def draw(self, figure: Figure) -> None:
        """Each metric by group for the model and the copy, with the deviation of runs."""
        groups = list(self.scores[MODEL])
        panels_of = panels(figure, len(self.metrics), width=4.5 * len(self.metrics))
        for axes, metric in zip(panels_of, self.metrics, strict=True):
            for row, (label, colour, shift) in _SERIES.items():
                found = [
                    (place, self.scores[row][name][metric])
                    for place, name in enumerate(groups)
                    if metric in self.scores[row][name]
                ]
                axes.barh(
                    [len(groups) - place + shift for place, _ in found],
                    [spread.mean for _, spread in found],
                    0.4,
                    xerr=[spread.std or 0 for _, spread in found],
                    error_kw={"elinewidth": 0.8},
                    label=label,
                    color=colour,
                )
            axes.set_yticks(range(len(groups), 0, -1), groups)
            axes.set(xlabel=metric)
        handles = panels_of[0].get_legend_handles_labels()
        figure.legend(*handles, frameon=False, ncols=2, loc="outside upper center")


_SERIES = {MODEL: ("world model", BLUE, 0.2), COPY: ("copy of the source", ORANGE, -0.2)}


def halves(motion: Sequence[float]) -> list[str]:
    """The half of each case by its motion. With an odd number, the middle case is in the half with less."""
    order = np.argsort(motion, kind="stable")
    more = {int(place) for place in order[(len(order) + 1) // 2 :]}
    return [MORE if place in more else LESS for place in range(len(order))]


def score_measured(
    measured: Sequence[MeasuredImage], judge_failures: Counter[str], left_out: Sequence[LeftOut]
) -> AuroraScores:
    """Means over the images of each row and group. "all" is over images, not over subsets."""
    rows: defaultdict[str, defaultdict[str, list[MeasuredImage]]] = defaultdict(lambda: defaultdict(list))
    for image in measured:
        for group in (ALL, image.task, image.half):
            rows[image.row][group].append(image)
    scores = {
        row: {group: _spreads(groups[group]) for group in GROUPS if group in groups}
        for row, groups in rows.items()
    }
    return AuroraScores(scores, dict(judge_failures), list(left_out))


def _spreads(measured: Sequence[MeasuredImage]) -> dict[str, Spread]:
    metrics = dict.fromkeys(metric for image in measured for metric in image.values)
    return {metric: _spread(metric, measured) for metric in metrics}


def _spread(metric: str, measured: Sequence[MeasuredImage]) -> Spread:
    runs: defaultdict[int, list[float]] = defaultdict(list)
    for image in measured:
        if metric in image.values:
            runs[image.run].append(image.values[metric])
    means = [np.mean(values) for values in runs.values()]
    std = float(np.std(means, ddof=1)) if len(means) > 1 else None
    return Spread(float(np.mean(means)), std, sum(map(len, runs.values())))
