"""The distributions of scores and motion, over all pairs and by class, and the most frequent actions.

Pure functions of a table with the columns of `gallery.scores`. Knows no page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

NUM_BINS = 32
TAIL = 0.005
"""The share of the lowest scores that goes into the first bin, however low they are, so that a few outliers
leave room for the rest; of motion, the share of the highest values that goes into the last bin."""
LEAST_DECADE, MOST_DECADE = -4, 3
"""Log-likelihoods beyond −0.0001 and −1000 are in the outermost bins."""
NUM_CLASSES = 12
NUM_FREQUENT = 12
STOP_WORDS = ["and", "for", "from", "her", "his", "into", "its", "the", "their", "with"]


@dataclass(frozen=True, slots=True)
class Axis:
    """The edges of bins, which are drawn equally wide, and the values that are written below, equally far."""

    edges: Sequence[float]
    ticks: Sequence[float]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts in the bins of an axis; values beyond it are in the outermost bins."""

    axis: Axis
    counts: Sequence[int]
    median: float


@dataclass(frozen=True, slots=True)
class ClassRow:
    """The pairs of one class, or of several; None if none of them has a score or a motion."""

    name: str
    is_class: bool
    num_triplets: int
    score: Histogram | None
    motion: Histogram | None


def by_class(table: pl.DataFrame) -> list[ClassRow]:
    """All pairs, then those of each frequent class, then those of all other classes together."""
    score, motion = score_axis(table["score"]), motion_axis(table["motion"])
    return [
        ClassRow(
            name, is_class, len(rows), histogram(rows["score"], score), histogram(rows["motion"], motion)
        )
        for name, is_class, rows in _groups(table)
    ]


def histogram(values: pl.Series, axis: Axis) -> Histogram | None:
    """The histogram of the finite values; None if there are none."""
    known = values.filter(values.is_finite()).to_numpy()
    if not len(known):
        return None
    counts, _ = np.histogram(np.clip(known, axis.edges[0], axis.edges[-1]), bins=axis.edges)
    return Histogram(axis, counts.tolist(), float(np.median(known)))


def score_axis(scores: pl.Series) -> Axis:
    """Logarithmic, in whole decades, from almost the lowest log-likelihood to almost the highest.

    A model that is sure of most actions gives them −0.001 or so, and one that is not −1.
    """
    worst, best = (_decade(_quantile(scores, share)) for share in (TAIL, 1 - TAIL))
    first, last = math.ceil(worst), math.floor(best)
    if first == last:
        last -= 1
    edges = -np.logspace(first, last, NUM_BINS + 1)
    return Axis(edges.tolist(), [-(10.0**power) for power in range(first, last - 1, -1)])


def motion_axis(motion: pl.Series) -> Axis:
    """From 0 to almost the highest motion."""
    return _linear(max(math.ceil(_quantile(motion, 1 - TAIL)), 1.0))


def share_axis(values: pl.Series) -> Axis:
    """From 0 to almost the highest value, and at least to a tenth."""
    return _linear(max(math.ceil(round(_quantile(values, 1 - TAIL) * 10, 4)) / 10, 0.1))


def _linear(high: float) -> Axis:
    return Axis(np.linspace(0, high, NUM_BINS + 1).tolist(), [0.0, high])


def _decade(score: float) -> float:
    """The power of ten of a log-likelihood's size, within what is worth drawing."""
    return min(max(math.log10(max(-score, 1e-9)), LEAST_DECADE), MOST_DECADE)


def frequent_actions(actions: pl.Series) -> list[tuple[str, int]]:
    """The most frequent actions with their counts."""
    return _most_frequent(actions, NUM_FREQUENT)


def frequent_words(actions: pl.Series) -> list[tuple[str, int]]:
    """The most frequent words of three letters or more, with the number of actions that contain them."""
    words = (
        actions.str.to_lowercase().str.extract_all(r"[\p{L}\p{N}'-]{3,}").list.unique().explode().drop_nulls()
    )
    return _most_frequent(words.filter(~words.is_in(STOP_WORDS)), NUM_FREQUENT)


def _most_frequent(texts: pl.Series, num: int) -> list[tuple[str, int]]:
    counts = texts.rename("text").to_frame().group_by("text").len()
    return list(counts.sort("len", "text", descending=[True, False]).head(num).iter_rows())


def _groups(table: pl.DataFrame) -> Iterator[tuple[str, bool, pl.DataFrame]]:
    """The name of each group, whether it is a class, and its rows."""
    yield "all", False, table
    named = table.filter(pl.col("action_class").is_not_null())
    classes = [name for name, _ in _most_frequent(named["action_class"], len(named))]
    for name in classes[:NUM_CLASSES]:
        yield name, True, named.filter(pl.col("action_class") == name)
    if others := classes[NUM_CLASSES:]:
        yield f"{len(others):,} other classes", False, named.filter(pl.col("action_class").is_in(others))
    if classes and len(named) < len(table):
        yield "no class", False, table.filter(pl.col("action_class").is_null())


def _quantile(values: pl.Series, share: float) -> float:
    quantile = values.filter(values.is_finite()).quantile(share)
    return 0.0 if quantile is None else quantile
