import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kinescribe.training.loop import Hooks, Schedule, train

SCHEDULE = Schedule(steps=6, batch=8, seed=1, log_every=2, evaluate_every=4, checkpoint_every=4)


class FakeEngine:
    """Returns each batch's number as its loss, and a random number."""

    rank = 0
    learning_rate = 0.5

    def __init__(self) -> None:
        self.seen: list[int] = []

    def step(self, micro_batches: Sequence[int]) -> dict[str, Tensor]:
        self.seen += micro_batches
        return {"loss": torch.tensor(float(micro_batches[0])), "random": torch.rand(())}

    def reduce(self, shares: Mapping[str, Tensor]) -> dict[str, float]:
        return {name: float(share) for name, share in shares.items()}


class Record:
    """The calls of the loop's hooks, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.reports: list[dict[str, float]] = []

    def hooks(self) -> Hooks:
        return Hooks(self.report, lambda step: self.events.append(("checkpoint", step)), self.evaluate)

    def report(self, step: int, metrics: dict[str, float]) -> None:
        self.events.append(("report", step))
        self.reports.append(metrics)

    def evaluate(self) -> dict[str, float]:
        return {"loss": 9.0}


def run(start: int = 0, rank: int = 0) -> tuple[FakeEngine, Record]:
    engine, record = FakeEngine(), Record()
    engine.rank = rank
    train(engine, lambda step: [step], SCHEDULE, record.hooks(), start)
    return engine, record


def test_every_step_is_taken_once_in_order():
    assert run()[0].seen == [0, 1, 2, 3, 4, 5]
    assert run(start=4)[0].seen == [4, 5]


def test_a_finished_run_takes_no_step():
    assert run(start=6)[0].seen == []


def test_it_reports_measures_and_saves_on_time_and_at_the_end():
    events = run()[1].events
    assert events == [
        ("report", 2),
        ("report", 4),
        ("report", 4),
        ("checkpoint", 4),
        ("report", 6),
        ("report", 6),
        ("checkpoint", 6),
    ]


def test_a_report_holds_means_since_the_last_one():
    reports = run()[1].reports
    assert [report["loss"] for report in reports if "loss" in report] == [0.5, 2.5, 4.5]
    assert reports[0]["learning_rate"] == 0.5
    assert reports[0]["samples_per_s"] > 0
    assert reports[2] == {"held_out_loss": 9.0}


def test_random_numbers_are_a_function_of_the_step():
    whole, resumed = run()[1].reports, run(start=4)[1].reports
    assert resumed[0]["random"] == whole[-2]["random"] != whole[0]["random"]


def test_every_rank_draws_its_own_random_numbers():
    drawn = [
        [report["random"] for report in run(rank=rank)[1].reports if "loss" in report] for rank in (0, 1)
    ]
    assert not set(drawn[0]) & set(drawn[1])


@pytest.mark.parametrize(("evaluate_every", "checkpoint_every"), [(2, 6), (6, 2)])
def test_the_speed_counts_neither_evaluations_nor_checkpoints(evaluate_every, checkpoint_every):
    def slow(*_: object) -> dict[str, float]:
        time.sleep(0.2)
        return {}

    schedule = replace(SCHEDULE, evaluate_every=evaluate_every, checkpoint_every=checkpoint_every)
    record = Record()
    train(FakeEngine(), lambda step: [step], schedule, Hooks(record.report, slow, slow), 0)
    speeds = [report["samples_per_s"] for report in record.reports]
    assert min(speeds) > 8 / 0.1, speeds


def test_the_speed_leaves_out_the_first_step_which_is_reported_by_itself():
    class SlowStart(FakeEngine):
        def step(self, micro_batches: Sequence[int]) -> dict[str, Tensor]:
            if not self.seen:
                time.sleep(0.3)
            return super().step(micro_batches)

    record, first_s = Record(), list[float]()
    hooks = replace(record.hooks(), first_step=first_s.append)
    train(SlowStart(), lambda step: [step], SCHEDULE, hooks, 0)
    assert len(first_s) == 1
    assert first_s[0] >= 0.3
    assert record.reports[0]["samples_per_s"] > 8 / 0.1
    every_step = Record()
    train(FakeEngine(), lambda step: [step], replace(SCHEDULE, log_every=1), every_step.hooks(), 0)
    assert "samples_per_s" not in every_step.reports[0]
    assert "samples_per_s" in every_step.reports[1]


def test_a_batch_that_cannot_be_made_ends_the_run():
    def batches(step: int) -> list[int]:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        train(FakeEngine(), batches, SCHEDULE, Record().hooks(), 0)
