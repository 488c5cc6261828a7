import numpy as np

from kinescribe.evaluation.world import (
    CODEC,
    COPY,
    MODEL,
    ORACLE,
    VERIFIED,
    BestOfN,
    Case,
    draw_case,
    imagined_steps,
    score_best_of_n,
    score_world,
)
from kinescribe.simulation.transitions import CLASSES
from tests.tiny_vlm import tiny_vlm

NUM = 3


def ignored(done: int, total: int) -> None:
    """Nobody looks at the progress."""


def test_classes_take_turns_and_a_case_is_a_function_of_seed_and_index():
    cases = [draw_case(seed=1, index=index) for index in (0, 6)]
    assert [case.change.action.verb for case in cases] == [CLASSES[0], CLASSES[6]]
    again, other = draw_case(1, 0), draw_case(2, 0)

    def shown(case: Case) -> bytes:
        return case.source.tobytes() + case.target.tobytes()

    assert (again.change, shown(again)) == (cases[0].change, shown(cases[0]))
    assert shown(other) != shown(cases[0])


def test_copy_and_codec_stand_beside_the_model_for_every_kind_of_action():
    scores = score_world(tiny_vlm(), None, NUM, 1, 0, ignored).scores
    assert set(scores) == {MODEL, COPY, CODEC}
    for row in scores.values():
        assert row["all"].judge.num == row["object"].judge.num == NUM
        assert set(row) == {"all", "object", "move", "add", "remove"}
    assert scores[COPY]["all"].judge.mean == 0
    assert scores[COPY]["all"].l1 < scores[MODEL]["all"].l1
    # A codec of random weights draws nothing that could be right.
    assert scores[CODEC]["all"].judge.mean == 0


def test_scores_are_a_function_of_the_seed():
    first, again, other = (score_world(tiny_vlm(), None, NUM, 1, seed, ignored) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_best_of_fewer_is_a_prefix_of_the_same_samples():
    def best(*counts: int) -> BestOfN:
        return score_best_of_n(tiny_vlm(0), tiny_vlm(0), counts, NUM, 0, ignored)

    many, few = best(1, 2, 4).judge, best(1, 2).judge
    assert {n: many[VERIFIED][n] for n in (1, 2)} == few[VERIFIED]
    assert many[VERIFIED][1] == many[ORACLE][1]


def test_what_is_shown_are_the_samples_that_are_judged():
    steps = imagined_steps(tiny_vlm(0), tiny_vlm(0), 2, 3, seed=0)
    assert [step.action for step in steps] == [str(draw_case(0, index).change.action) for index in range(2)]
    assert all(len(step.samples) == 3 and step.best == int(np.argmax(step.scores)) for step in steps)


def test_one_case_has_no_standard_error():
    scores = score_world(tiny_vlm(), None, 1, 1, 0, ignored).scores
    assert scores[MODEL]["all"].judge.standard_error is None
    assert np.isfinite(scores[MODEL]["all"].l1)
