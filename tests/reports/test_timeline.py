from datetime import UTC, datetime

import pytest

from kinescribe.reports.timeline import timeline
from kinescribe.schemas.outcomes import StageTime
from kinescribe.storage.shards import UnitFooter
from tests.tiny_dataset import clip, outcome

START = 1.7e9


def footer(end_s: float, *stages: StageTime, num_clips: int = 2) -> UnitFooter:
    """The footer of a unit committed `end_s` after the start, with three triplets per clip."""
    ends = tuple(outcome(clip(str(index)), 3) for index in range(num_clips))
    return UnitFooter("u", "", datetime.fromtimestamp(START + end_s, UTC), ends, stages)


def stage(name: str, begin_s: float, seconds: float, worker: str = "node/1") -> StageTime:
    return StageTime(name, START + begin_s, seconds, worker, seconds)


def test_the_stage_whose_workers_waited_least_is_the_bottleneck():
    units = [
        footer(10 * unit + 12, stage("decode", 10 * unit, 2, "a"), stage("label", 10 * unit + 2, 9.9, "b"))
        for unit in range(10)
    ]
    told = timeline(units)
    assert told is not None
    decode, label = told.stages
    assert told.bottleneck == label
    assert decode.busy_share == pytest.approx(20 / 92)
    assert label.busy_share == pytest.approx(99 / 99.9)
    assert told.active_s == pytest.approx(102)
    assert (told.num_clips, told.num_triplets) == (20, 60)


def test_busy_workers_add_up_to_the_work():
    units = [
        footer(20, stage("label", 0, 20, "a")),
        footer(20, stage("label", 0, 10, "b")),
        footer(30, stage("label", 22.5, 7.5, "b")),
    ]
    told = timeline(units)
    assert told is not None
    (label,) = told.stages
    assert (label.num_workers, label.seconds) == (2, 37.5)
    assert sum(label.busy) * told.bin_s == pytest.approx(37.5)
    assert label.busy[0] == label.most_busy == pytest.approx(2)
    assert label.busy_share == pytest.approx(37.5 / 50)
    assert sum(told.clips) == 6
    assert sum(told.rates) * told.bin_s / 60 == pytest.approx(6)


def test_a_pause_between_two_runs_is_left_out():
    week = 7 * 24 * 3600
    units = [footer(60, stage("label", 0, 50, "a")), footer(week + 40, stage("label", week, 30, "b"))]
    told = timeline(units)
    assert told is not None
    assert told.active_s == pytest.approx(100)
    assert told.pauses == [pytest.approx(week - 60)]
    assert sum(told.clips) == 4
    assert told.stages[0].busy_share == pytest.approx(1)


def test_a_run_that_mostly_waited_for_its_models_says_so_and_has_no_bottleneck():
    told = timeline([footer(19, stage("decode", 0, 2, "a"), stage("label", 17, 1.9, "b"))])
    assert told is not None
    assert told.idle_s == pytest.approx(15.1)
    assert told.bottleneck is None


def test_time_in_which_any_stage_worked_is_not_idle():
    told = timeline([footer(10, stage("decode", 0, 6, "a"), stage("label", 5, 4, "b"))])
    assert told is not None
    assert told.idle_s == pytest.approx(1)


def test_units_that_tell_no_stages_have_a_throughput_alone():
    told = timeline([footer(0), footer(30), footer(60)])
    assert told is not None
    assert (told.active_s, told.idle_s) == (60, 0)
    assert told.bottleneck is None
    assert timeline([footer(0)]) is None
    assert timeline([]) is None
