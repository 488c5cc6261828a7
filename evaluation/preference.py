"""Whether a model finds a true triplet likelier than the same one made false (METHOD §5).

Works on the codes of a dataset; knows no images. False in four ways, and only where what comes out is false:

- random action: one of another triplet, whose text differs.
- random target: one of another triplet, whose codes differ.
- copied source: the source in the target's place; none where the two have the same codes.
- swapped: source for target; none for an action that is its own inverse, as turning is, since the swapped
  triplet is as true as the other. Only sentences of the simulated world tell; any other text is taken not to
  be its own inverse.

Likelihoods are those of the whole completion: of the action (dynamics) or the target's codes (world).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.random import Generator
from numpy.typing import NDArray

from evaluation.actions import parse
from evaluation.labels import Rate
from models.token_vlm import TokenVLM
from models.tokens import Codes, CodeTriplet, Task
from schemas.errors import DatasetError
from storage.shards import scan

FALSE_WAYS = ("random action", "random target", "copied source", "swapped")
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Preferences:
    """How many triplets were compared, and in each way how many were likelier than their false twin."""

    task: Task
    triplets: int
    likelier: dict[str, Rate]
    """By the way in which the twin is false; a triplet without a fair twin isn't among the total."""


class Triplets(NamedTuple):
    """N triplets of a dataset; an image is L codes."""

    source_NL: Codes
    target_NL: Codes
    action_N: NDArray[np.str_]


def prefer(
    model: TokenVLM,
    dataset: str,
    task: Task,
    num: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Preferences:
    """Compare the first `num` triplets of the dataset with false twins. Raises DatasetError."""
    triplets = _read(dataset, model, num)
    rng = np.random.default_rng(seed)
    wins: dict[str, list[bool]] = {way: [] for way in FALSE_WAYS}
    total = len(triplets.action_N)
    for start in range(0, total, _BATCH):
        for way, won in _compare(model, task, triplets, range(start, min(start + _BATCH, total)), rng):
            wins[way].append(won)
        progress(min(start + _BATCH, total), total)
    return Preferences(task, total, {way: Rate(sum(won), len(won)) for way, won in wins.items()})


def _compare(
    model: TokenVLM, task: Task, triplets: Triplets, indices: Sequence[int], rng: Generator
) -> list[tuple[str, bool]]:
    """Ways and whether the true triplet is likelier; a tie is no win."""
    true = [_triplet(triplets, index) for index in indices]
    twins = [
        (place, way, twin)
        for place, index in enumerate(indices)
        for way, twin in false_twins(triplets, index, rng).items()
    ]
    scores = model.score([*true, *(twin for _, _, twin in twins)], task)
    return [
        (way, scores[place] > score)
        for (place, way, _), score in zip(twins, scores[len(true) :], strict=True)
    ]


def false_twins(triplets: Triplets, index: int, rng: Generator) -> dict[str, CodeTriplet]:
    """The triplet made false in each way that is fair."""
    true = _triplet(triplets, index)
    source, target, action = true
    twins: dict[str, CodeTriplet] = {}
    if len(others := np.flatnonzero(triplets.action_N != action)):
        twins["random action"] = CodeTriplet(source, target, str(triplets.action_N[rng.choice(others)]))
    if len(others := np.flatnonzero((triplets.target_NL != target).any(-1))):
        twins["random target"] = CodeTriplet(source, triplets.target_NL[rng.choice(others)], action)
    if (source != target).any():
        twins["copied source"] = true.copied
        known = parse(action)
        if known is None or known.inverse() != known:
            twins["swapped"] = true.swapped
    return twins


def _triplet(triplets: Triplets, index: int) -> CodeTriplet:
    return CodeTriplet(triplets.source_NL[index], triplets.target_NL[index], str(triplets.action_N[index]))


def _read(dataset: str, model: TokenVLM, num: int) -> Triplets:
    table: pa.Table = scan(dataset, ("source_codes", "target_codes", "action")).head(num)
    codec = json.loads((table.schema.metadata or {}).get(b"kinescribe.codec", b"{}")).get("id")
    if codec != model.codec_id:
        raise DatasetError(
            f"the codes of {dataset} are of codec {codec}, the model's codec is {model.codec_id}; "
            "label the dataset with this model's codec"
        )
    if not len(table):
        raise DatasetError(f"{dataset} holds no triplet")
    actions = np.array(table["action"].to_pylist(), np.str_)
    return Triplets(_codes(table["source_codes"]), _codes(table["target_codes"]), actions)


def _codes(column: pa.ChunkedArray) -> Codes:
    return np.stack([np.asarray(codes, np.uint16) for codes in column.to_pylist()])
