"""Whether a model finds a true triplet likelier than a corrupted one (evaluation in arXiv:2506.06006).

Images are compared by their codes. A triplet is corrupted in four ways, unless the result would be true:

- random action: the action of another triplet with a different text.
- random target: the target of another triplet with different codes.
- copied source: the source instead of the target, unless both have the same codes.
- swapped: source and target swapped, unless the action is its own inverse, such as turning. Only actions of
  the simulated world are known to be their own inverse.

Likelihoods are of the whole completion: the action (dynamics) or the target's codes (world).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.random import Generator
from numpy.typing import NDArray

from kinescribe.evaluation.label_accuracy import Rate, rate_table
from kinescribe.models.dynamics import DynamicsModel
from kinescribe.models.tokens import Codes, Task, Triplet
from kinescribe.schemas.codes import same_network
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.rendering import BLUE, Figure, Progress, Table, panels
from kinescribe.simulation.actions import parse
from kinescribe.storage.dataset import Dataset

FALSE_WAYS = ("random action", "random target", "copied source", "swapped")
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Preferences:
    """How many triplets were compared, and how many were likelier than their corrupted twin."""

    task: Task
    triplets: int
    likelier: dict[str, Rate]
    """By the corruption of the twin. A triplet without such a twin is not in the total."""
    written: int = 0
    """Triplets whose action a model wrote; that model finds its own words likely."""

    def tables(self) -> Iterable[Table]:
        """The share of triplets that are likelier than their twin, by corruption."""
        written = [("actions that a model wrote", f"{self.written:,}")] if self.written else []
        yield Table([("triplets", f"{self.triplets:,}"), *written])
        yield rate_table(f"found likelier ({self.task}) than with", self.likelier)

    def draw(self, figure: Figure) -> None:
        """The shares with 95 % intervals, beside chance."""
        (axes,) = panels(figure, 1, width=7.0, height=2.8)
        rates = {way: rate for way, rate in self.likelier.items() if rate.total}
        shares = np.array([rate.share for rate in rates.values()])
        errors = np.abs(np.array([rate.interval for rate in rates.values()]).T - shares)
        axes.barh(range(len(rates)), shares, xerr=errors, color=BLUE, error_kw={"elinewidth": 0.8})
        axes.axvline(0.5, color="black", linewidth=0.8, linestyle="--")
        axes.set_yticks(range(len(rates)), [f"{way}  {rate.share:.3f}" for way, rate in rates.items()])
        axes.invert_yaxis()
        axes.set(xlim=(0, 1), xlabel=f"share of true triplets found likelier ({self.task})")


class Triplets(NamedTuple):
    """N triplets of a dataset. An image is L codes.

    Frame n is the source of triplet n, frame N + n its target.
    """

    source_NL: Codes
    target_NL: Codes
    action_N: NDArray[np.str_]


def prefer(
    model: DynamicsModel[Any],
    dataset: str,
    task: Task,
    num: int,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> Preferences:
    """Compare the first `num` triplets of the dataset with corrupted twins. Raises DatasetError."""
    table = _read(dataset, model, num)
    actions = np.array(table["action"].to_pylist(), np.str_)
    if too_long := [action for action in np.unique(actions).tolist() if not model.takes(task, action)]:
        raise DatasetError(
            f"{len(too_long)} actions of {dataset} are too long for the model, first "
            f"{shorten(too_long[0], 80)!r}; name another dataset, or a lower num"
        )
    triplets = Triplets(_codes(table["source_codes"]), _codes(table["target_codes"]), actions)
    codes = [*triplets.source_NL, *triplets.target_NL]
    images: list[Any] = [*table["source"].to_pylist(), *table["target"].to_pylist()]

    def score(chunk: Sequence[Triplet[int]]) -> list[float]:
        seen = {
            frame: model.see(codes[frame], partial(images[frame].__getitem__, "bytes"))
            for frame in {frame for triplet in chunk for frame in triplet[:2]}
        }
        return model.score([Triplet(seen[t.source], seen[t.target], t.action) for t in chunk], task)

    rng = np.random.default_rng(seed)
    wins: dict[str, list[bool]] = {way: [] for way in FALSE_WAYS}
    total = len(actions)
    for start in range(0, total, _BATCH):
        for way, won in _compare(score, triplets, range(start, min(start + _BATCH, total)), rng):
            wins[way].append(won)
        progress(min(start + _BATCH, total), total)
    written = total - table["finish_reason"].null_count
    return Preferences(task, total, {way: Rate(sum(won), len(won)) for way, won in wins.items()}, written)


def _compare(
    score: Callable[[Sequence[Triplet[int]]], list[float]],
    triplets: Triplets,
    indices: Sequence[int],
    rng: Generator,
) -> list[tuple[str, bool]]:
    """The corruption of each twin, and whether the true triplet is likelier than it; a tie is not."""
    true = [_triplet(triplets, index) for index in indices]
    twins = [
        (place, way, twin)
        for place, index in enumerate(indices)
        for way, twin in false_twins(triplets, index, rng).items()
    ]
    scores = score([*true, *(twin for _, _, twin in twins)])
    return [
        (way, scores[place] > false)
        for (place, way, _), false in zip(twins, scores[len(true) :], strict=True)
    ]


def false_twins(triplets: Triplets, index: int, rng: Generator) -> dict[str, Triplet[int]]:
    """The triplet's corrupted twins, by corruption."""
    true = _triplet(triplets, index)
    source, target = triplets.source_NL[index], triplets.target_NL[index]
    twins: dict[str, Triplet[int]] = {}
    if len(others := np.flatnonzero(triplets.action_N != true.action)):
        twins["random action"] = true._replace(action=str(triplets.action_N[rng.choice(others)]))
    if len(others := np.flatnonzero((triplets.target_NL != target).any(-1))):
        twins["random target"] = true._replace(target=len(triplets.action_N) + int(rng.choice(others)))
    if (source != target).any():
        twins["copied source"] = true.copied
        known = parse(true.action)
        if known is None or known.inverse() != known:
            twins["swapped"] = true.swapped
    return twins


def _triplet(triplets: Triplets, index: int) -> Triplet[int]:
    return Triplet(index, len(triplets.action_N) + index, str(triplets.action_N[index]))


def _read(dataset: str, model: DynamicsModel[Any], num: int) -> pa.Table:
    columns = ("source", "target", "source_codes", "target_codes", "action", "finish_reason")
    opened = Dataset.open(dataset)
    if model.codec_id is not None and not same_network(model.codec_id, opened.codec_id):
        raise DatasetError(
            f"{dataset} has codes of codec {opened.codec_id}, and the model's codec is {model.codec_id}; "
            "label the dataset with this model's codec"
        )
    table = opened.scan(columns).head(num)
    if not len(table):
        raise DatasetError(f"{dataset} has no triplets; name another dataset")
    return table


def _codes(column: pa.ChunkedArray) -> Codes:
    return np.stack([np.asarray(codes, np.uint16) for codes in column.to_pylist()])
