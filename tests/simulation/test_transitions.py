from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from kinescribe.simulation.actions import parse
from kinescribe.simulation.transitions import CLASSES, Change, between, draw_change, draw_scene


def draws(action_class: str, seed: int = 0) -> Iterator[Change]:
    rng = np.random.default_rng(seed)
    while True:
        change = draw_change(rng, draw_scene(rng), action_class)
        if change is not None:
            yield change


@pytest.mark.parametrize("action_class", CLASSES)
def test_a_change_is_a_sentence_of_its_class_and_changes_the_scene(action_class: str):
    for change in islice(draws(action_class), 20):
        verbs = ("grow", "shrink") if action_class == "resize" else (action_class,)
        assert change.action.verb in verbs
        assert parse(str(change.action)) == change.action
        assert change.before != change.after


@pytest.mark.parametrize("action_class", CLASSES)
def test_objects_of_a_scene_never_look_alike(action_class: str):
    for change in islice(draws(action_class), 20):
        for scene in (change.before, change.after):
            looks = [(thing.colour, thing.shape) for thing in scene.things]
            assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("action_class", CLASSES)
def test_a_change_begins_and_ends_at_its_scenes(action_class: str):
    change = next(draws(action_class))
    assert between(change, 0.0) == change.before
    assert between(change, 1.0) == change.after


def test_a_move_goes_where_it_says():
    vectors = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
    for change in islice(draws("move"), 30):
        moved = [(b, a) for b, a in zip(change.before.things, change.after.things, strict=True) if a != b]
        ((before, after),) = moved
        shift = np.array([after.x - before.x, after.y - before.y])
        assert shift @ vectors[change.action.direction or ""] >= 0.15
        assert (before.colour, before.shape) == change.action.object


def test_a_draw_is_a_function_of_its_seed():
    assert list(islice(draws("move", 3), 5)) == list(islice(draws("move", 3), 5))
