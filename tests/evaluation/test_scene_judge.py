from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from PIL import Image as PILImage

from kinescribe.evaluation.scene_judge import HALF_RIGHT, Judge
from kinescribe.models.checkpoint_files import CODEC, EMBEDDED
from kinescribe.models.codec import ImageCodec, to_images
from kinescribe.simulation.actions import Action
from kinescribe.simulation.counterfactuals import picture
from kinescribe.simulation.scene import Camera, Image, Scene, Thing
from kinescribe.simulation.transitions import CLASSES, Change, draw_change, draw_scene

RED_BALL = Thing("ball", "red", 0.5, 0.3, 0.18, 0.0)
BLUE_BOX = Thing("box", "blue", 0.5, 0.75, 0.18, 5.0)
SCENE = Scene((RED_BALL, BLUE_BOX), Camera(), backdrop=3)
MOVE = Action("move", "red", "ball", "left")
PAN = Action("pan", direction="left")


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(SCENE)


def with_things(*things: Thing) -> Image:
    return picture(replace(SCENE, things=things))


def with_ball(**state: float) -> Image:
    return with_things(replace(RED_BALL, **state), BLUE_BOX)


MOVED = with_ball(x=0.22)


@cache
def changes() -> tuple[Change, ...]:
    """One of each class."""

    def drawn(index: int) -> Iterator[Change]:
        for seed in range(50):
            rng = np.random.default_rng([seed, index])
            if change := draw_change(rng, draw_scene(rng), CLASSES[index]):
                yield change

    return tuple(next(drawn(index)) for index in range(len(CLASSES)))


@pytest.fixture(scope="module")
def codec() -> ImageCodec:
    return ImageCodec.load(EMBEDDED["embedded"] / CODEC)


def through(codec: ImageCodec, image: Image) -> Image:
    codes_BL = codec.encode(codec.preprocess([PILImage.fromarray(image)])).codes_BL
    return np.asarray(to_images(codec.decode(codes_BL))[0])


def test_the_rendered_truth_gets_ten_and_a_copy_nothing():
    for change in changes():
        judge = Judge(change.before)
        truth = judge.judge(picture(change.after), change.action)
        assert truth.nearest == change.action
        assert truth.score > 9.5, change
        copy = judge.judge(picture(change.before), change.action)
        assert (copy.nearest, copy.editing, copy.score) == (None, 0.0, 0.0)


def test_truth_and_copy_are_known_through_the_codec(codec: ImageCodec):
    truths: list[float] = []
    for change in changes():
        judge = Judge(change.before)
        truth = judge.judge(through(codec, picture(change.after)), change.action)
        truths.append(truth.score if truth.nearest == change.action else 0.0)
        assert judge.judge(through(codec, picture(change.before)), change.action).score == 0
    assert np.mean(truths) > 9


def test_how_far_an_object_is_moved_is_free(judge: Judge):
    assert [judge.judge(with_ball(x=0.5 - distance), MOVE).score for distance in (0.16, 0.27, 0.38)] == [
        10
    ] * 3


def test_the_right_object_in_the_wrong_direction_is_half_right(judge: Judge):
    verdict = judge.judge(with_ball(x=0.78), MOVE)
    assert verdict.nearest == replace(MOVE, direction="right")
    assert verdict.editing == HALF_RIGHT


def test_another_verb_of_the_right_object_is_half_right(judge: Judge):
    assert judge.judge(with_things(BLUE_BOX), MOVE).editing == HALF_RIGHT


def test_the_wrong_object_counts_nothing(judge: Judge):
    verdict = judge.judge(with_things(RED_BALL, replace(BLUE_BOX, x=0.22)), MOVE)
    assert verdict.nearest == Action("move", "blue", "box", "left")
    assert verdict.editing == 0


def test_a_camera_that_goes_the_wrong_way_is_half_right(judge: Judge):
    panned = picture(replace(SCENE, camera=Camera(x=0.7)))
    assert judge.judge(panned, PAN).editing == HALF_RIGHT
    assert judge.judge(panned, MOVE).editing == 0


def test_editing_grows_as_the_image_goes_from_copy_to_truth(judge: Judge):
    source, truth = picture(SCENE).astype(float), MOVED.astype(float)
    blends = [(source + share * (truth - source)).astype(np.uint8) for share in (0.2, 0.45, 0.6, 0.9)]
    scores = [judge.judge(blend, MOVE).editing for blend in blends]
    assert scores[:2] == [0, 0]
    assert 0 < scores[2] < 10
    assert scores[3] == 10


def test_what_else_is_changed_costs_minimal_editing(judge: Judge):
    alone = judge.judge(MOVED, MOVE)
    beside = judge.judge(with_things(replace(RED_BALL, x=0.22)), MOVE)
    assert alone.minimal == 10
    assert beside.nearest == MOVE
    assert 2 < beside.minimal < 8


def test_a_picture_of_another_scene_scores_nothing(judge: Judge):
    other = picture(replace(SCENE, things=(), backdrop=8))
    assert [judge.judge(other, action).score for action in (MOVE, PAN)] == [0, 0]


def test_what_comes_newly_into_view_is_free(judge: Judge):
    panned = picture(replace(SCENE, camera=Camera(x=0.25)))
    panned[:, :15] = np.random.default_rng(0).integers(0, 255, (64, 15, 3))
    assert judge.judge(panned, PAN).score == 10


def test_an_object_that_leaves_the_view_with_the_camera_is_not_taken_for_moved():
    """Where it was, the camera shows something new, which says nothing for either."""
    scene = Scene((Thing("cross", "purple", 0.706, 0.776, 0.173, -11.0),), Camera(), backdrop=224488331577)
    tilt = Action("tilt", direction="down")
    assert Judge(scene).judge(picture(replace(scene, camera=Camera(y=0.89))), tilt).nearest == tilt


def test_an_outcome_between_the_members_of_the_grid_is_found():
    """Its parameters are refined; the nearest member of the grid is another action's."""
    rng = np.random.default_rng([7, 1])
    change = draw_change(rng, draw_scene(rng), "add")
    assert change
    verdict = Judge(change.before).judge(picture(change.after), change.action)
    assert (verdict.nearest, verdict.editing) == (change.action, 10)
