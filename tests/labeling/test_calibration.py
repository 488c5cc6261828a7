import numpy as np
import pytest

from kinescribe.labeling.calibration import calibrate, expected_precision, min_score_for
from kinescribe.schemas.errors import DatasetError, InputError

RNG = np.random.default_rng(0)
SCORES = RNG.uniform(-2, 0, 4000)
IS_RIGHT = RNG.uniform(size=4000) < np.exp(SCORES)
"""The probability that a row is right is that of its score."""


def test_the_probability_of_a_score_is_found():
    calibration = calibrate(SCORES, IS_RIGHT)
    known = np.linspace(-1.8, -0.2, 9)
    assert np.abs(calibration.probability(known) - np.exp(known)).max() < 0.08
    assert (np.diff(calibration.probability(np.sort(SCORES))) >= 0).all()


def test_scores_beyond_the_rated_ones_have_the_outermost_probability():
    calibration = calibrate(np.array([-1.0, 0.0] * 20), np.array([False, True] * 20))
    assert calibration.probability(np.array([-9.0, -1.0, -0.5, 0.0, 3.0])).tolist() == [0, 0, 0.5, 1, 1]


def test_a_score_with_several_ratings_has_their_mean():
    calibration = calibrate(np.zeros(20), np.arange(20) < 5)
    assert calibration.probability(np.array([-1.0, 0.0, 1.0])).tolist() == [0.25] * 3


def test_a_higher_score_is_never_worse():
    scores = np.repeat([0.0, 1.0, 2.0], [30, 10, 10])
    is_right = np.repeat([True, False, True], [30, 10, 10])
    assert calibrate(scores, is_right).probabilities.tolist() == [0.75, 0.75, 1.0]


def test_the_expected_precision_is_the_mean_of_the_rows_down_to_a_score():
    calibration = calibrate(np.array([-1.0, 0.0] * 20), np.array([False, True] * 20))
    ordered, means = expected_precision(calibration, np.array([-1.0, 0.0, -0.5]))
    assert ordered.tolist() == [0.0, -0.5, -1.0]
    assert means.tolist() == [1.0, 0.75, 0.5]


def test_the_lowest_score_with_the_precision_is_found():
    calibration = calibrate(SCORES, IS_RIGHT)
    lowest = min_score_for(calibration, SCORES, 0.8)
    kept = lowest <= SCORES
    assert abs(IS_RIGHT[kept].mean() - 0.8) < 0.03
    ordered, means = expected_precision(calibration, SCORES)
    place = ordered.tolist().index(lowest)
    assert means[place] >= 0.8 > means[place + 1]


def test_rows_with_equal_scores_are_taken_together():
    calibration = calibrate(np.array([-1.0, 0.0] * 20), np.array([False, True] * 20))
    scores = np.array([0.0, -1.0, -1.0, -1.0])
    assert min_score_for(calibration, scores, 0.5) == 0.0  # one of the three would still do
    assert min_score_for(calibration, scores, 0.25) == -1


def test_a_precision_that_no_row_has_is_refused():
    calibration = calibrate(np.zeros(20), np.arange(20) < 5)
    with pytest.raises(DatasetError, match=r"min_precision 0.9: .* 0.250; ask for less"):
        min_score_for(calibration, np.zeros(3), 0.9)


def test_few_ratings_say_nothing():
    with pytest.raises(InputError, match=r"19 rated rows .* at least 20"):
        calibrate(np.zeros(19), np.ones(19, bool))
