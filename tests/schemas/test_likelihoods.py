import numpy as np
import pyarrow as pa
import pytest

from kinescribe.schemas.likelihoods import (
    FEWEST,
    NUM_BINS,
    Familiarity,
    familiarity,
    histogram,
    total,
)


def of(losses: list[float | None], tokens: int = 4) -> tuple[int, ...]:
    sums = [None if loss is None else -tokens * loss for loss in losses]
    return histogram(pa.array(sums, pa.float32()), pa.array([tokens] * len(losses), pa.int32()))


def test_each_pair_is_in_the_bin_of_its_log_probability_per_token():
    counts = of([0.0, 1e-9, 0.011, 0.9, 500.0])
    assert sum(counts) == 5
    assert (counts[0], counts[24], counts[39], counts[-1]) == (2, 1, 1, 1)
    assert len(counts) == NUM_BINS


def test_pairs_without_a_likelihood_do_not_count():
    assert sum(of([None, 0.1])) == 1
    nothing = pa.array([None], pa.float32()), pa.array([None], pa.int32())
    assert sum(histogram(*nothing)) == 0
    assert sum(histogram(pa.array([float("-inf")], pa.float32()), pa.array([2], pa.int32()))) == 0


def test_histograms_add_up():
    assert total([of([0.1]), of([0.1, 0.2])]) == of([0.1, 0.1, 0.2])
    assert sum(total([])) == 0


def test_clips_that_are_alike_give_no_warning():
    random = np.random.default_rng(0)
    usual, same = (of(list(10 ** random.uniform(-5, 0, 400))) for _ in range(2))
    known = familiarity(same, usual)
    assert known is not None
    assert known.unlike == pytest.approx(0.5, abs=0.05)
    assert known.warning is None


def test_clips_that_are_unlike_give_a_warning_with_both_medians():
    known = familiarity(of([0.16] * FEWEST), of([0.003] * 100))
    assert known == Familiarity(pytest.approx(-0.16, rel=0.2), pytest.approx(-0.003, rel=0.2), 1.0)
    assert known is not None
    assert known.warning is not None
    assert "-0.15 against -0.0027" in known.warning
    assert "read a sample before you train" in known.warning


def test_likelier_words_than_usual_give_no_warning():
    known = familiarity(of([0.001] * 50), of([0.1] * 100))
    assert known is not None
    assert (known.unlike, known.warning) == (0.0, None)


def test_too_few_pairs_or_an_unknown_model_say_nothing():
    assert familiarity(of([0.16] * (FEWEST - 1)), of([0.003] * 100)) is None
    assert familiarity(of([0.16] * 100), None) is None
    assert familiarity(of([0.16] * 100), of([])) is None
