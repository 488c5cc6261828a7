"""How likely a model's words are to the model itself, as a histogram that units and models keep.

The log-probability per token of clips that a model knows is mostly near 0, so the bins are logarithmic. Two
histograms are compared by the probability that a random pair of one is likelier than a random pair of the
other (the area under the ROC curve): 0.5 for two alike, 1 where every pair of the first is likelier.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

PER_DECADE, LOWEST, DECADES = 8, 1e-5, 6
NUM_BINS = PER_DECADE * DECADES
"""Bins of the negative log-probability per token, from 1e-5 to 10; the ends hold what lies beyond."""
MAX_COUNT = 10**12
Histogram = Annotated[
    tuple[Annotated[int, Field(ge=0, le=MAX_COUNT)], ...], Field(min_length=NUM_BINS, max_length=NUM_BINS)
]
"""The number of pairs in each bin."""
UNLIKE = 0.75
"""From here on, clips look unlike those that a model knows: for 20 independent pairs that are alike, 0.75 is
3.9 standard deviations away."""
FEWEST = 20


def histogram(logprob_N: pa.Array | pa.ChunkedArray, tokens_N: pa.Array | pa.ChunkedArray) -> Histogram:
    """Of summed log-probabilities and numbers of tokens; rows without either don't count."""
    losses_N = pc.call_function(
        "divide", [pc.call_function("negate", [logprob_N]), tokens_N.cast(pa.float32())]
    )
    known_N = np.asarray(losses_N.drop_null(), np.float64)
    known_N = known_N[np.isfinite(known_N)]
    bins_N = np.floor(PER_DECADE * np.log10(np.maximum(known_N, LOWEST) / LOWEST)).astype(np.int64)
    counts = np.bincount(np.clip(bins_N, 0, NUM_BINS - 1), minlength=NUM_BINS)
    return tuple(counts.tolist())


def total(histograms: Iterable[Histogram]) -> Histogram:
    """The sum of all."""
    counts = np.zeros(NUM_BINS, np.int64)
    for each in histograms:
        counts += each
    return tuple(counts.tolist())


@dataclass(frozen=True, slots=True)
class Familiarity:
    """How the labels' likelihoods compare with those on data like the model's training data."""

    median: float
    """Log-probability per token, as all values here to the width of a bin."""
    usual_median: float
    unlike: float
    """The probability that a random pair of the usual ones is likelier than a random pair of these."""

    @property
    def warning(self) -> str | None:
        """What to tell the user, if these clips look unlike those that the model knows."""
        if self.unlike < UNLIKE:
            return None
        return (
            f"these clips look unlike what this model knows: median log-probability per token "
            f"{self.median:.2g} against {self.usual_median:.2g}; read a sample before you train on it"
        )


def familiarity(these: Histogram, usual: Histogram | None) -> Familiarity | None:
    """The comparison; None if the model doesn't say what is usual, or if there are too few pairs."""
    if usual is None or sum(these) < FEWEST or not sum(usual):
        return None
    mine, known = (np.asarray(counts) / sum(counts) for counts in (these, usual))
    less = np.concatenate([[0.0], np.cumsum(known)[:-1]])
    unlike = float((mine * (less + known / 2)).sum())
    return Familiarity(*(float(f"{value:.3g}") for value in (_median(these), _median(usual), unlike)))


def _median(counts: Histogram) -> float:
    place = int(np.searchsorted(np.cumsum(counts), sum(counts) / 2))
    return -LOWEST * 10 ** ((place + 0.5) / PER_DECADE)
