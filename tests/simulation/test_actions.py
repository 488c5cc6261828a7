import pytest

from kinescribe.simulation.actions import CAMERA, OBJECT_VERBS, Action, all_actions, parse
from kinescribe.simulation.scene import NEW_SHAPES


def test_every_sentence_is_parsed_back():
    assert [action for action in all_actions() if parse(str(action)) != action] == []


def test_no_two_actions_share_a_sentence():
    sentences = [str(action) for action in all_actions()]
    assert len(set(sentences)) == len(sentences)


def test_every_verb_has_sentences():
    assert {action.verb for action in all_actions()} == {*OBJECT_VERBS, *CAMERA}


def test_the_inverse_of_the_inverse_is_the_action():
    assert [action for action in all_actions() if action.inverse().inverse() != action] == []


def test_objects_of_a_new_shape_are_understood():
    for shape in NEW_SHAPES:
        action = Action("paint", "red", shape, None, "blue")
        assert parse(str(action)) == action


def test_only_turning_is_its_own_inverse():
    assert {action.verb for action in all_actions() if action.inverse() == action} == {"turn"}


@pytest.mark.parametrize(
    "text",
    ["", "pan up", "zoom left", "move the red ball", "move the pink ball left", "paint the red ball pink"],
)
def test_other_text_has_no_action(text: str):
    assert parse(text) is None
