import numpy as np
import pytest

from evaluation.best_of_n import Imagined, imagine_best
from models.tokens import CodeTriplet
from tests.tiny_vlm import tiny_vlm


def test_the_best_is_the_sample_that_the_dynamics_model_finds_likeliest():
    world, dynamics = tiny_vlm(0), tiny_vlm(0)
    source = np.arange(16, dtype=np.uint16)
    imagined = imagine_best(world, dynamics, source, "move the red ball left", 4, seed=1, temperature=20.0)
    scores = dynamics.score(
        [CodeTriplet(source, codes, "move the red ball left") for codes in imagined.codes_NL]
    )
    assert imagined.scores_N.tolist() == pytest.approx(scores)
    assert len(set(scores)) > 1
    assert imagined.best == int(np.argmax(scores))


def test_equals_go_to_the_first():
    assert Imagined(np.zeros((3, 4), np.uint16), np.array([-2.0, -1.0, -1.0])).best == 1
