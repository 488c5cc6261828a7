import pytest

from evaluation.wording import wording


def test_the_same_words_score_one():
    scores = wording(["move the red ball left"], ["move the red ball left"])
    assert (scores.rouge_1, scores.rouge_l, scores.bleu) == pytest.approx((1, 1, 1))


def test_four_words_of_five_are_four_fifths():
    scores = wording(["move the red ball left"], ["move the red ball right"])
    assert (scores.rouge_1, scores.rouge_l) == pytest.approx((0.8, 0.8))
    assert 0 < scores.bleu < 0.8


def test_the_longest_common_run_tells_order_from_choice():
    scores = wording(["the red ball"], ["ball red the"])
    assert scores.rouge_1 == pytest.approx(1)
    assert scores.rouge_l == pytest.approx(1 / 3)


def test_no_words_score_nothing():
    scores = wording(["move the red ball left"], [""])
    assert (scores.rouge_1, scores.rouge_l, scores.bleu) == (0, 0, 0)
