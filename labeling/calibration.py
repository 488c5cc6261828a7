"""How likely an action is right, given its score: an isotonic regression of ratings on scores.

The score of a likelier action may be misleading by any amount, but a higher score is taken to be at least as
good. The expected precision of the rows above a threshold is the mean of what the regression says of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from kinescribe.schemas.errors import DatasetError, InputError

Scores = NDArray[np.float64]
MIN_RATED = 20
"""Ratings that a calibration needs; with fewer it would say almost anything."""


@dataclass(frozen=True)
class Calibration:
    """The probability that an action is right, at some scores; between them it is interpolated."""

    scores: Scores
    probabilities: NDArray[np.float64]

    def probability(self, scores: Scores) -> NDArray[np.float64]:
        """The probability that an action with this score is right."""
        return np.interp(scores, self.scores, self.probabilities)


def calibrate(scores: Scores, is_right: NDArray[np.bool_]) -> Calibration:
    """The regression over rated rows in any order. Raises InputError if there are too few."""
    if len(scores) < MIN_RATED:
        raise InputError(
            f"{len(scores)} rated rows with a score are too few to say what other rows are worth; "
            f"rate at least {MIN_RATED}"
        )
    known, places = np.unique(scores, return_inverse=True)
    weights = np.bincount(places)
    shares = np.bincount(places, is_right) / weights
    return Calibration(known, isotonic_regression(shares, weights=weights).x)


def expected_precision(calibration: Calibration, scores: Scores) -> tuple[Scores, NDArray[np.float64]]:
    """All scores, the highest first, and the expected precision of the rows down to each."""
    ordered = np.sort(scores)[::-1]
    means = np.cumsum(calibration.probability(ordered)) / np.arange(1, len(ordered) + 1)
    return ordered, means


def min_score_for(calibration: Calibration, scores: Scores, min_precision: float) -> float:
    """The lowest score such that the rows from it on have this expected precision.

    Raises DatasetError if not even the best rows have it.
    """
    ordered, means = expected_precision(calibration, scores)
    # Rows with equal scores are taken together.
    ends = np.append(ordered[1:] < ordered[:-1], True)
    enough = np.flatnonzero(ends & (means >= min_precision))
    if not len(enough):
        raise DatasetError(
            f"min_precision {min_precision:g}: even the best rows have an expected precision of "
            f"{means[ends].max():.3f}; ask for less, or for more ratings"
        )
    return float(ordered[enough[-1]])
