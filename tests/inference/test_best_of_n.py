import numpy as np
import pytest

from kinescribe.inference.best_of_n import Imagined, imagine_best, roll_out
from kinescribe.models.tokens import CodeTriplet
from tests.tiny_vlm import tiny_vlm


def test_the_best_is_the_sample_that_the_dynamics_model_finds_likeliest():
    world, dynamics = tiny_vlm(0), tiny_vlm(0)
    source = np.arange(16, dtype=np.uint16)
    imagined = imagine_best(world, dynamics, source, "move the red ball left", 4, seed=1, temperature=20.0)
    scores = dynamics.score(
        [CodeTriplet(source, codes, "move the red ball left") for codes in imagined.targets_N]
    )
    assert imagined.scores_N.tolist() == pytest.approx(scores)
    assert len(set(scores)) > 1
    assert imagined.best == int(np.argmax(scores))


def test_a_dynamics_model_of_another_codec_sees_the_pictures_through_its_own():
    world, dynamics = tiny_vlm(0), tiny_vlm(1)
    source, action = np.arange(16, dtype=np.uint16), "move the red ball left"
    imagined = imagine_best(world, dynamics, source, action, 4, seed=1, temperature=20.0)
    before, *after = map(dynamics.encode, world.pictures(np.stack([source, *imagined.targets_N])))
    assert not np.array_equal(before, source)
    scores = dynamics.score([CodeTriplet(before, codes, action) for codes in after])
    assert imagined.scores_N.tolist() == pytest.approx(scores)


def test_equals_go_to_the_first():
    assert Imagined(np.zeros((3, 4), np.uint16), np.array([-2.0, -1.0, -1.0])).best == 1


def test_a_step_starts_from_the_best_of_the_one_before():
    model, actions, seeds = tiny_vlm(0), ["move left", "move right", "move left"], [5, 6, 7]
    source = np.arange(16, dtype=np.uint16)
    steps = list(roll_out(model, model, source, actions, seeds, 4, temperature=20.0))
    assert len(steps) == 3
    for step, action, seed in zip(steps, actions, seeds, strict=True):
        alone = imagine_best(model, model, source, action, 4, seed, temperature=20.0)
        assert (step.targets_N == alone.targets_N).all()
        assert step.scores_N.tolist() == pytest.approx(alone.scores_N.tolist())
        source = step.targets_N[step.best]
