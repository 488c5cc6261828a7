import math
from pathlib import Path

import pytest

from kinescribe.evaluation.label_accuracy import Prediction, Rate, pair_truth, predict, score
from kinescribe.schemas.errors import InputError
from kinescribe.simulation.actions import Action, parse
from kinescribe.simulation.clips import Segment, Truth
from tests.tiny_triplets import LABELLED, write_triplets
from tests.tiny_vlm import tiny_vlm

MOVE = Action("move", "red", "ball", "left")
PAN = Action("pan", direction="left")
PAINT = Action("paint", "red", "ball", new_colour="blue")


def predictions(*pairs: tuple[Action, str]) -> list[Prediction]:
    return [Prediction(truth, text, -float(index)) for index, (truth, text) in enumerate(pairs)]


def test_a_right_sentence_is_right_in_every_attribute():
    scores = score(predictions((MOVE, str(MOVE)), (PAN, str(PAN)), (PAINT, str(PAINT))))
    for rate in (scores.exact, scores.verb, scores.object, scores.direction, scores.camera_direction):
        assert rate.share == 1.0
    assert scores.new_colour == Rate(1, 1)


def test_an_attribute_counts_only_where_the_truth_has_it():
    scores = score(predictions((MOVE, "move the red ball right"), (PAN, "pan left")))
    assert (scores.exact, scores.verb, scores.object) == (Rate(1, 2), Rate(2, 2), Rate(1, 1))
    assert (scores.direction, scores.camera_direction) == (Rate(1, 2), Rate(1, 1))
    assert math.isnan(scores.new_colour.share)


def test_an_attribute_is_right_by_itself():
    scores = score(predictions((MOVE, "move the blue box left"), (PAN, "pan right"), (PAINT, str(PAINT))))
    assert (scores.object, scores.direction) == (Rate(1, 2), Rate(1, 2))
    assert scores.camera_direction == Rate(0, 1)
    assert scores.by_verb["move"] == scores.by_verb["pan"] == Rate(0, 1)
    assert scores.by_verb["paint"] == Rate(1, 1)
    assert scores.by_verb["zoom"] == Rate(0, 0)


def test_text_that_is_no_sentence_is_wrong_and_counted_as_such():
    scores = score(predictions((MOVE, "move the"), (MOVE, "pan left")))
    assert scores.exact == Rate(0, 2)
    assert scores.confusion == {"move": {"(no sentence)": 1, "pan": 1}}


def test_the_least_likely_tenth_comes_first():
    pairs = [(MOVE, str(MOVE) if index < 15 else "pan left") for index in range(20)]
    shares = [rate.share for rate in score(predictions(*pairs)).by_decile]
    assert shares == [0, 0, 0.5, 1, 1, 1, 1, 1, 1, 1]


def test_nothing_to_score_is_an_error():
    with pytest.raises(InputError, match="simulated world"):
        score([])


def truth(*segments: Segment, cuts_s: tuple[float, ...] = ()) -> Truth:
    return Truth("move/a.mp4", "move", segments, cuts_s)


LEFT = Segment(1.0, 2.0, "pan left", sudden=False)
RIGHT = Segment(3.0, 4.0, "pan right", sudden=False)


@pytest.mark.parametrize(
    ("source_s", "target_s", "shown"),
    [
        (0.5, 2.5, parse("pan left")),
        (2.5, 4.5, parse("pan right")),
        (0.5, 4.5, "mixed"),
        (1.5, 3.9, "mixed"),
        (2.1, 2.9, "nothing"),
        (0.5, 1.33, "mixed"),
        (0.5, 3.33, "mixed"),
    ],
)
def test_a_pair_shows_the_action_that_fills_it(source_s: float, target_s: float, shown: object):
    assert pair_truth(truth(LEFT, RIGHT), source_s, target_s) == shown


def test_an_action_twice_in_a_pair_is_that_action():
    again = Segment(3.0, 4.0, "pan left", sudden=False)
    assert pair_truth(truth(LEFT, again), 0.5, 4.5) == parse("pan left")


def test_each_other_action_must_be_nearly_absent():
    zoom = Segment(4.0, 5.0, "zoom in", sudden=False)
    assert pair_truth(truth(LEFT, RIGHT, zoom), 0.5, 3.5) == "mixed"


def test_a_pair_over_a_cut_is_seen():
    assert pair_truth(truth(LEFT, cuts_s=(1.5,)), 0.5, 2.5) == "cut"


def test_the_frame_at_a_cut_belongs_to_the_new_shot():
    assert pair_truth(truth(LEFT, cuts_s=(2.5,)), 0.5, 2.5) == "cut"
    assert pair_truth(truth(LEFT, cuts_s=(0.5,)), 0.5, 2.5) == parse("pan left")


def test_actions_that_a_model_wrote_are_no_truth(tmp_path: Path):
    model = tiny_vlm()
    given, labelled = str(tmp_path / "given"), str(tmp_path / "labelled")
    write_triplets(given, 3, model.codec.id)
    write_triplets(labelled, 3, model.codec.id, **LABELLED)
    assert len(predict(given, model)) == 3
    with pytest.raises(InputError, match=r"a model wrote actions of .*labelled, .*; name a dataset of"):
        predict(labelled, model)
