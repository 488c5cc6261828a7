from dataclasses import replace

import numpy as np
import pytest

from kinescribe.simulation.actions import Action
from kinescribe.simulation.counterfactuals import SIDE, Family, OutcomeRenderer, families, picture
from kinescribe.simulation.scene import NEW_SHAPES, SHAPES, Camera, Scene, Thing
from kinescribe.simulation.transitions import CLASSES, draw_change, draw_scene, fits

RED_BALL = Thing("ball", "red", 0.3, 0.3, 0.18, 0.0)
BLUE_BOX = Thing("box", "blue", 0.7, 0.7, 0.18, 5.0)
SCENE = Scene((RED_BALL, BLUE_BOX), Camera(), backdrop=3)


def family(action: Action) -> Family:
    return next(family for family in families(SCENE) if family.action == action)


@pytest.mark.parametrize("shapes", [SHAPES, NEW_SHAPES])
@pytest.mark.parametrize("action_class", CLASSES)
def test_every_drawn_change_belongs_to_a_family(action_class: str, shapes: tuple[str, ...]):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        change = draw_change(rng, draw_scene(rng, shapes), action_class)
        if change is not None:
            assert change.action in {family.action for family in families(change.before)}


def test_an_outcome_looks_like_the_scene_after_the_change():
    renderer = OutcomeRenderer(SCENE)
    raised = replace(RED_BALL, x=0.65, y=0.27)
    drawn = {
        Action("remove", "red", "ball"): ((), (BLUE_BOX,)),
        Action("move", "red", "ball", "right"): (
            (0.35, -0.03),
            (raised, BLUE_BOX),
        ),
        Action("grow", "blue", "box"): ((0.25,), (RED_BALL, replace(BLUE_BOX, radius=0.25))),
        Action("turn", "blue", "box"): ((0.5,), (RED_BALL, replace(BLUE_BOX, angle=50.0))),
    }
    for action, (parameters, things) in drawn.items():
        shown = renderer.picture(family(action), parameters)
        assert shown is not None
        assert np.array_equal(shown.image, picture(replace(SCENE, things=things))), action


def test_an_impossible_outcome_has_no_image():
    """So far up the box would lie on the ball."""
    moved = family(Action("move", "blue", "box", "left"))
    assert (
        OutcomeRenderer(replace(SCENE, things=(RED_BALL, replace(BLUE_BOX, y=0.3)))).picture(
            moved, (0.4, 0.0)
        )
        is None
    )


def test_all_outcomes_of_a_grid_keep_objects_in_view_and_apart():
    for one in families(SCENE):
        others = tuple(thing for index, thing in enumerate(SCENE.things) if index != one.place)
        states = [one.state(member) for member in one.grid]
        things = [state for state in states if isinstance(state, Thing)]
        assert all(fits(thing, others, SCENE.camera) for thing in things)


def test_a_ball_is_not_turned_and_no_object_added_twice_or_painted_as_it_is():
    actions = {family.action for family in families(SCENE)}
    assert Action("turn", "blue", "box") in actions
    assert Action("turn", "red", "ball") not in actions
    assert Action("add", "red", "ball") not in actions
    assert Action("paint", "red", "ball", new_colour="red") not in actions


def test_a_pan_reveals_a_strip_that_the_source_does_not_show():
    shown = OutcomeRenderer(SCENE).picture(family(Action("pan", direction="left")), (0.25,))
    assert shown is not None
    assert shown.visible is not None
    columns = shown.visible[SIDE // 2]
    assert not columns[: SIDE // 4].any()
    assert columns[SIDE // 4 + 1 : -1].all()
