from collections import Counter

import pytest

from kinescribe.evaluation.aurora_scores import LESS, MORE, MeasuredImage, Spread, halves, score_measured


def measured(run: int, case: str, task: str, half: str, row: str = "model", **values: float) -> MeasuredImage:
    return MeasuredImage(row, run, case, task, half, values)


def test_half_of_the_cases_move_more():
    assert halves([0.5, 3.0, 0.1, 2.0]) == [LESS, MORE, LESS, MORE]
    assert halves([3.0, 1.0, 2.0]) == [MORE, LESS, LESS]
    assert halves([1.0, 1.0]) == [LESS, MORE]


def test_means_are_of_runs_and_spread_is_between_them():
    scores = score_measured(
        [
            measured(0, "a", "ag", MORE, judge=4.0, l1=0.1),
            measured(0, "b", "kubric", LESS, judge=8.0, l1=0.3),
            measured(1, "a", "ag", MORE, judge=1.0, l1=0.2),
            measured(1, "b", "kubric", LESS, judge=3.0, l1=0.2),
            measured(0, "a", "ag", MORE, row="copy", l1=0.0),
        ],
        Counter(),
        [],
    ).scores
    assert list(scores["model"]) == ["all", "ag", "kubric", MORE, LESS]
    assert scores["model"]["all"]["judge"] == Spread(4.0, pytest.approx(8**0.5), 4)
    assert scores["model"]["ag"]["judge"] == Spread(2.5, pytest.approx(4.5**0.5), 2)
    assert scores["model"][LESS]["l1"].mean == pytest.approx(0.25)
    assert scores["copy"]["all"] == {"l1": Spread(0.0, None, 1)}


def test_an_image_without_a_score_counts_for_nothing():
    images = [measured(0, "a", "ag", MORE, judge=4.0), measured(0, "b", "ag", LESS)]
    scores = score_measured(images, Counter({"timeout": 1}), [])
    assert scores.scores["model"]["all"]["judge"] == Spread(4.0, None, 1)
    assert "judge" not in scores.scores["model"][LESS]
    assert scores.judge_failures == {"timeout": 1}
