"""How well a world model imagines, against exact truth: judge and L1 by action, and the gain of best of N.

The model is compared with a copy of the source, which L1 rewards and the judge does not, and with the true
target through its codec or autoencoder, which is the best that the model can reach. Reads no files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from kinescribe.evaluation.scene_judge import Judge, Verdict
from kinescribe.inference.best_of_n import Imagined, imagine_best
from kinescribe.inference.contact_sheet import Step
from kinescribe.models.dynamics import DynamicsModel
from kinescribe.models.world import WorldModel
from kinescribe.schemas.rendering import BLUE, GREY, ORANGE, Figure, Progress, Table, panels
from kinescribe.simulation.actions import VERBS, Action
from kinescribe.simulation.counterfactuals import picture, shrunk
from kinescribe.simulation.scene import SHAPES, Image
from kinescribe.simulation.transitions import CLASSES, Change, draw_change, draw_scene
from kinescribe.simulation.triplets import split_rng

MODEL, COPY, CODEC = "model", "copy", "codec"
VERIFIED, ORACLE = "verified", "oracle"
_FIRST_DRAW = 2**33
"""Index of the first case in the test split. Triplets and clips use lower ones."""


class Case(NamedTuple):
    """A change that a world model is asked for, and images of its two scenes."""

    change: Change
    judge: Judge
    source: Image
    target: Image


class _Judged(NamedTuple):
    action: Action
    verdict: Verdict
    l1: float


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of `num` values, with its standard error (None for one value)."""

    mean: float
    standard_error: float | None
    num: int

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.2f}"
        return f"{self.mean:.2f}{error}"


@dataclass(frozen=True, slots=True)
class Score:
    """Means over images: the judge's two scores and their minimum, 0 to 10, and L1 to the truth, 0 to 1."""

    editing: float
    minimal: float
    judge: Mean
    l1: float

    @property
    def row(self) -> tuple[str, ...]:
        """The means as cells: editing, minimal, judge, L1."""
        return f"{self.editing:.2f}", f"{self.minimal:.2f}", f"{self.judge.mean:.2f}", f"{self.l1:.3f}"


@dataclass(frozen=True, slots=True)
class WorldScores:
    """Scores by what was judged (model, copy, codec), then by "all", "object", "camera" and verb."""

    scores: dict[str, dict[str, Score]]

    def tables(self) -> Iterable[Table]:
        """Means by action: the model's above those of the copy and of the codec."""
        rows = [
            (action, f"{score.judge.num:,}", name, *by_action[action].row)
            for action, score in self.scores[MODEL].items()
            for name, by_action in self.scores.items()
        ]
        yield Table(rows, columns=("action", "cases", "of", "editing", "minimal", "judge", "L1"))

    def draw(self, figure: Figure) -> None:
        """The judge's mean by action for the model, the copy and the codec, with standard errors."""
        (axes,) = panels(figure, 1, width=10.0)
        groups = [name for name in ("all", "object", "camera", *VERBS) if name in self.scores[MODEL]]
        width = 0.27
        for place, (row, (label, colour)) in enumerate(_SERIES.items()):
            means = [self.scores[row][group].judge for group in groups]
            bars = axes.bar(
                np.arange(len(groups)) + (place - 1) * width,
                [mean.mean for mean in means],
                width,
                yerr=[mean.standard_error or 0 for mean in means],
                error_kw={"elinewidth": 0.8},
                label=label,
                color=colour,
            )
            axes.bar_label(bars, fmt="%.1f", fontsize=6, padding=1)
        axes.set_xticks(range(len(groups)), groups)
        axes.set(ylabel="judge", ylim=(0, 11))
        axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


_SERIES = {
    MODEL: ("world model", BLUE),
    COPY: ("copy of the source", ORANGE),
    CODEC: ("truth through the codec", GREY),
}


@dataclass(frozen=True, slots=True)
class BestOfN:
    """The judge's mean by N, for the sample that the dynamics model chooses and for the truly best one."""

    judge: dict[str, dict[int, Mean]]

    def tables(self) -> Iterable[Table]:
        """The judge's mean for each N."""
        for name, means in self.judge.items():
            rows = [(f"{count}", f"{mean}", f"of {mean.num:,} cases") for count, mean in means.items()]
            yield Table(rows, f"judge, {name} best of")

    def draw(self, figure: Figure) -> None:
        """The judge's mean by N, with standard errors."""
        (axes,) = panels(figure, 1, width=6.0)
        labels = {VERIFIED: ("best by the dynamics model", BLUE), ORACLE: ("best by the judge", GREY)}
        for row, (label, colour) in labels.items():
            means = self.judge[row]
            axes.errorbar(
                list(means),
                [mean.mean for mean in means.values()],
                [mean.standard_error or 0 for mean in means.values()],
                marker="o",
                capsize=3,
                label=label,
                color=colour,
            )
        counts = list(self.judge[VERIFIED])
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set(xlabel="samples", ylabel="judge")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)


def draw_case(seed: int, index: int, shapes: tuple[str, ...] = SHAPES) -> Case:
    """A test scene and a change of the next class. The same for the same seed and index."""
    rng = split_rng("test", seed, _FIRST_DRAW + index)
    while True:
        change = draw_change(rng, draw_scene(rng, shapes), CLASSES[index % len(CLASSES)])
        if change is not None and change.action in (judge := Judge(change.before)).actions:
            return Case(change, judge, picture(change.before), picture(change.after))


def score_world(
    world: WorldModel,
    dynamics: DynamicsModel[Any] | None,
    num_cases: int,
    num_samples: int,
    seed: int,
    progress: Progress,
) -> WorldScores:
    """Judge the best of `num_samples` for each case, or the first sample without a dynamics model."""
    judged: dict[str, list[_Judged]] = defaultdict(list)
    for case, imagined in _imagined(world, dynamics, num_cases, num_samples, seed, progress):
        model, codec = _shown(
            world, np.stack([imagined.targets_N[imagined.best], _encoded(world, case.target)])
        )
        for name, image in ((MODEL, model), (COPY, case.source), (CODEC, codec)):
            judged[name].append(_judged(case, image))
    return WorldScores({name: _by_action(results) for name, results in judged.items()})


def score_best_of_n(
    world: WorldModel,
    dynamics: DynamicsModel[Any],
    counts: Sequence[int],
    num_cases: int,
    seed: int,
    progress: Progress,
) -> BestOfN:
    """Judge the best of the first N of the same samples, for each N of `counts`."""
    chosen: dict[str, dict[int, list[float]]] = {
        name: {count: [] for count in counts} for name in (VERIFIED, ORACLE)
    }
    for case, imagined in _imagined(world, dynamics, num_cases, max(counts), seed, progress):
        images = _shown(world, imagined.targets_N)
        scores = [case.judge.judge(image, case.change.action).score for image in images]
        for count in counts:
            best = int(imagined.scores_N[:count].argmax())
            chosen[VERIFIED][count].append(scores[best])
            chosen[ORACLE][count].append(max(scores[:count]))
    return BestOfN(
        {name: {n: mean_of(values) for n, values in rows.items()} for name, rows in chosen.items()}
    )


def imagined_steps(
    world: WorldModel, dynamics: DynamicsModel[Any], num_cases: int, num_samples: int, seed: int
) -> list[Step]:
    """The images that are imagined in the first cases, to look at."""
    steps: list[Step] = []
    for case, imagined in _imagined(world, dynamics, num_cases, num_samples, seed, lambda done, total: None):
        source, *samples = map(PILImage.fromarray, (case.source, *_shown(world, imagined.targets_N)))
        steps.append(
            Step(str(case.change.action), source, samples, imagined.scores_N.tolist(), imagined.best)
        )
    return steps


def _imagined(
    world: WorldModel,
    dynamics: DynamicsModel[Any] | None,
    num_cases: int,
    num_samples: int,
    seed: int,
    progress: Progress,
) -> Iterator[tuple[Case, Imagined]]:
    for index in range(num_cases):
        case = draw_case(seed, index)
        source, action = _encoded(world, case.source), str(case.change.action)
        # With one seed for all cases, they would all use the same noise.
        draw = seed * 1_000_000 + index
        yield case, imagine_best(world, dynamics, source, action, num_samples, draw)
        progress(index + 1, num_cases)


def _encoded(world: WorldModel, image: Image) -> NDArray[Any]:
    return world.encode(PILImage.fromarray(image))


def _shown(world: WorldModel, frames_N: NDArray[Any]) -> list[Image]:
    """Images in the judge's size."""
    return [shrunk(np.asarray(image)) for image in world.pictures(frames_N)]


def _judged(case: Case, image: Image) -> _Judged:
    l1 = float(np.abs(image.astype(np.float32) - case.target).mean()) / 255
    return _Judged(case.change.action, case.judge.judge(image, case.change.action), l1)


def _by_action(judged: Sequence[_Judged]) -> dict[str, Score]:
    groups: defaultdict[str, list[_Judged]] = defaultdict(list)
    for result in judged:
        for name in ("all", "camera" if result.action.is_camera else "object", result.action.verb):
            groups[name].append(result)
    return {name: _score(group) for name, group in groups.items()}


def _score(judged: Sequence[_Judged]) -> Score:
    return Score(
        editing=float(np.mean([result.verdict.editing for result in judged])),
        minimal=float(np.mean([result.verdict.minimal for result in judged])),
        judge=mean_of([result.verdict.score for result in judged]),
        l1=float(np.mean([result.l1 for result in judged])),
    )


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of at least one value, with its standard error."""
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
    return Mean(float(np.mean(values)), error, len(values))
