import polars as pl
import pytest

from kinescribe.reports.distributions import (
    NUM_CLASSES,
    by_class,
    frequent_actions,
    frequent_words,
    histogram,
    motion_axis,
    score_axis,
)


def table(classes: list[str | None]) -> pl.DataFrame:
    scores = [-0.1 * (index + 1) for index in range(len(classes))]
    return pl.DataFrame(
        {"action_class": classes, "score": scores, "motion": [1.0] * len(classes)},
        schema_overrides={"action_class": pl.String},
    )


def test_a_value_beyond_the_limits_is_in_the_outermost_bin():
    scores = pl.Series([-0.3] * 999 + [-50.0])
    counted = histogram(scores, score_axis(scores))
    assert counted is not None
    assert counted.axis.ticks == [-1, -0.1]
    assert sum(counted.counts) == 1000
    assert counted.counts[0] == 1
    assert counted.median == pytest.approx(-0.3)
    assert motion_axis(pl.Series([2.2] * 999 + [400.0])).ticks == [0, 3]


def test_scores_are_told_apart_however_close_to_0_they_are():
    scores = pl.Series([-0.001] * 50 + [-0.002] * 30 + [-0.03] * 15 + [-2.0] * 5)
    counted = histogram(scores, score_axis(scores))
    assert counted is not None
    assert counted.axis.ticks == [-10, -1, -0.1, -0.01, -0.001]
    assert sorted(count for count in counted.counts if count) == [5, 15, 30, 50]
    assert len(counted.counts) == len(counted.axis.edges) - 1


def test_certain_scores_have_an_axis():
    scores = pl.Series([0.0, -0.0, -1e-9])
    counted = histogram(scores, score_axis(scores))
    assert counted is not None
    assert counted.counts[-1] == 3
    assert list(counted.axis.edges) == sorted(counted.axis.edges)


def test_values_that_are_not_numbers_are_not_counted():
    motion = pl.Series([1.0, float("nan"), 2.0, float("inf"), float("-inf"), None])
    counted = histogram(motion, motion_axis(motion))
    assert counted is not None
    assert (counted.axis.ticks[-1], sum(counted.counts), counted.median) == (2, 2, 1.5)


def test_infinite_scores_alone_have_no_histogram():
    scores = pl.Series([float("-inf")])
    assert histogram(scores, score_axis(scores)) is None


def test_given_triplets_have_no_histogram_of_scores():
    nothing = pl.Series([None, None], dtype=pl.Float64)
    assert histogram(nothing, score_axis(nothing)) is None


def test_the_order_is_all_then_classes_by_size_then_the_rest():
    classes: list[str | None] = [None, "jump"]
    for number in range(NUM_CLASSES):
        classes += [f"run {number:02d}"] * 2
    rows = by_class(table(classes))
    assert [(row.name, row.num_triplets) for row in rows] == [
        ("all", len(classes)),
        *((f"run {number:02d}", 2) for number in range(NUM_CLASSES)),
        ("1 other classes", 1),
        ("no class", 1),
    ]
    assert [row.is_class for row in rows] == [False, *[True] * NUM_CLASSES, False, False]


def test_a_dataset_without_classes_has_one_row():
    assert [row.name for row in by_class(table([None, None]))] == ["all"]


def test_words_are_counted_once_an_action_and_without_the_smallest():
    actions = pl.Series(["Move the red ball", "move the ball into the red box, the red box", "zoom in"])
    assert frequent_words(actions)[:4] == [("ball", 2), ("move", 2), ("red", 2), ("box", 1)]
    assert frequent_actions(pl.Series(["b", "a", "b"])) == [("b", 2), ("a", 1)]
