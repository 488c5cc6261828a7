"""Measures labels and models: `kinescribe.evaluate.labels(…)` and the other functions here.

Most measure against the simulated world, which has an exact truth. Each returns a result with its numbers;
the command line prints the same. `labels`, `dynamics` and AURORA-Bench need the `evaluate` extra.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kinescribe.arguments import StrPath, checked, no_progress
from kinescribe.preconditions import require_extras
from kinescribe.schemas.rendering import Progress

if TYPE_CHECKING:
    from kinescribe.evaluation.camera import CameraScores
    from kinescribe.evaluation.label_accuracy import LabelScores
    from kinescribe.evaluation.preference import Preferences
    from kinescribe.evaluation.world import BestOfN, WorldScores
    from kinescribe.schemas.config_base import NotNegative, Positive, Positives

__all__ = ["best_of_n", "camera", "dynamics", "labels", "preference", "world"]


def __dir__() -> list[str]:
    return __all__


@checked
def labels(dataset: StrPath, truth: StrPath, *, bertscore: StrPath | None = None) -> LabelScores:
    """Score the labels of simulated clips. Pairs that don't show a single action don't count.

    `truth` is the folder that `kinescribe simulate clips` wrote. `bertscore` is a text encoder, which adds
    BERTScore.

    >>> kinescribe.evaluate.labels("dataset", "clips").exact.share

    Raises ConfigError, InputError, DatasetError or ModelError.
    """
    require_extras("evaluate labels", "evaluate")
    from kinescribe.evaluation.label_accuracy import compare, score

    predictions, _ = compare(os.fspath(dataset), Path(truth))
    return score(predictions, None if bertscore is None else os.fspath(bertscore))


@checked
def dynamics(
    dataset: StrPath,
    model: StrPath = "embedded",
    *,
    num: Positive | None = None,
    bertscore: StrPath | None = None,
) -> LabelScores:
    """Score the actions that a dynamics model gives for the first `num` triplets of a simulated dataset.

    >>> kinescribe.evaluate.dynamics("simulated", "runs/mine/export", num=500).exact.share

    Raises ConfigError, InputError, DatasetError or ModelError.
    """
    require_extras("evaluate dynamics", "evaluate")
    from kinescribe.evaluation.label_accuracy import predict, score
    from kinescribe.models.registry import load

    predictions = predict(os.fspath(dataset), load(os.fspath(model), "describer"), num)
    return score(predictions, None if bertscore is None else os.fspath(bertscore))


@checked
def camera(
    dataset: StrPath, *, num: Positive | None = None, progress: Progress = no_progress
) -> CameraScores:
    """Score what labels say of the camera, on any footage, against the motion of the background.

    That is a homography between points that both stored frames show. Without `num`, of all triplets.

    >>> kinescribe.evaluate.camera("dataset").still_called_moving.share

    Raises ConfigError, InputError or DatasetError.
    """
    from kinescribe.evaluation.camera import evaluate_camera

    return evaluate_camera(os.fspath(dataset), num, progress)


@checked
def world(
    model: StrPath = "embedded-world",
    *,
    num: Positive = 200,
    seed: NotNegative = 0,
    num_samples: Positive = 1,
    dynamics: StrPath | None = None,
    progress: Progress = no_progress,
) -> WorldScores:
    """Judge a world model in `num` simulated scenes, beside a copy of the source and its codec's best.

    With a dynamics model, the best of `num_samples` is judged.

    >>> kinescribe.evaluate.world("runs/world/export").scores["model"]["all"].judge.mean

    Raises ConfigError or ModelError.
    """
    from kinescribe.schemas.config import require_chooser

    require_chooser(num_samples, dynamics)
    from kinescribe.evaluation.world import score_world
    from kinescribe.models.registry import load

    chooser = None if dynamics is None else load(os.fspath(dynamics), "dynamics")
    return score_world(load(os.fspath(model), "world"), chooser, num, num_samples, seed, progress)


@checked
def best_of_n(
    model: StrPath = "embedded-world",
    dynamics: StrPath = "embedded",
    *,
    counts: Positives = (1, 2, 4, 8),
    num: Positive = 200,
    seed: NotNegative = 0,
    progress: Progress = no_progress,
) -> BestOfN:
    """Judge the best of N samples for each N, chosen by a dynamics model and by the judge itself.

    >>> kinescribe.evaluate.best_of_n("runs/world/export").judge["verified"][8].mean

    Raises ConfigError or ModelError.
    """
    from kinescribe.evaluation.world import score_best_of_n
    from kinescribe.models.registry import load

    models = load(os.fspath(model), "world"), load(os.fspath(dynamics), "dynamics")
    return score_best_of_n(*models, counts, num, seed, progress)


@checked
def preference(
    model: StrPath,
    dataset: StrPath,
    *,
    task: Literal["dynamics", "world"] = "dynamics",
    num: Positive = 500,
    seed: NotNegative = 0,
    progress: Progress = no_progress,
) -> Preferences:
    """Measure how often a model finds true triplets likelier than corrupted ones.

    >>> kinescribe.evaluate.preference("embedded", "dataset").likelier["swapped"].share

    Raises ConfigError, DatasetError or ModelError.
    """
    from kinescribe.evaluation.preference import prefer
    from kinescribe.models.registry import load

    loaded = load(os.fspath(model), "dynamics" if task == "dynamics" else "unified")
    return prefer(loaded, os.fspath(dataset), task, num, seed, progress)
