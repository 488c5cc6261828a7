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
NUM_CLASSES = 12
NUM_FREQUENT = 12
STOP_WORDS = ["and", "for", "from", "her", "his", "into", "its", "the", "their", "with"]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts in bins of equal width from `low` to `high`; values beyond are in the outermost bins."""

    low: float
    high: float
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
    score, motion = score_limits(table["score"]), motion_limits(table["motion"])
    return [
        ClassRow(
            name, is_class, len(rows), histogram(rows["score"], score), histogram(rows["motion"], motion)
        )
        for name, is_class, rows in _groups(table)
    ]


def histogram(values: pl.Series, limits: tuple[float, float]) -> Histogram | None:
    """The histogram of the finite values; None if there are none."""
    known = values.filter(values.is_finite()).to_numpy()
    if not len(known):
        return None
    counts, _ = np.histogram(np.clip(known, *limits), bins=NUM_BINS, range=limits)
    return Histogram(*limits, counts.tolist(), float(np.median(known)))


def score_limits(scores: pl.Series) -> tuple[float, float]:
    """From almost the lowest log-likelihood to 0."""
    return min(math.floor(_quantile(scores, TAIL) * 10) / 10, -0.1), 0.0


def motion_limits(motion: pl.Series) -> tuple[float, float]:
    """From 0 to almost the highest motion."""
    return 0.0, max(math.ceil(_quantile(motion, 1 - TAIL)), 1.0)


def share_limits(values: pl.Series) -> tuple[float, float]:
    """From 0 to almost the highest value, and at least to a tenth."""
    return 0.0, max(math.ceil(round(_quantile(values, 1 - TAIL) * 10, 4)) / 10, 0.1)


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
