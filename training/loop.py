"""The training loop: plain Python around an engine, costing nearly nothing over a bare one.

Knows when to report, to measure and to save; not what a batch is, nor what runs the step. Ray and
DeepSpeed are somewhere else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Stepper(Protocol):
    """What the loop needs of an engine."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def rank(self) -> int: ...
    def step(self, micro_batches: Sequence[Any]) -> dict[str, Tensor]: ...
    def reduce(self, shares: Mapping[str, Tensor]) -> dict[str, float]: ...


@dataclass(frozen=True)
class Schedule:
    """When the loop does what; `batch` counts the samples of a step over all workers."""

    steps: int
    batch: int
    seed: int
    log_every: int
    evaluate_every: int
    checkpoint_every: int


@dataclass(frozen=True)
class Hooks:
    """What the loop calls, on every rank. `report` gets the step's number, from 1, and its metrics."""

    report: Callable[[int, dict[str, float]], None]
    checkpoint: Callable[[int], None]
    evaluate: Callable[[], dict[str, float]]


def train(
    engine: Stepper, batches: Callable[[int], Sequence[Any]], schedule: Schedule, hooks: Hooks, start: int
) -> None:
    """Take the steps from `start` to the end. `batches` gives a step's micro-batches for this rank.

    The next step's batches are made while the current one computes. Random numbers are a function of
    seed, step and rank, so that a resumed run draws what an undisturbed one does.
    """
    meter = Meter(schedule.batch)
    with ThreadPoolExecutor(1, "batches") as pool:
        ahead = pool.submit(batches, start)
        for step in range(start, schedule.steps):
            micro_batches = ahead.result()
            if step + 1 < schedule.steps:
                ahead = pool.submit(batches, step + 1)
            torch.manual_seed(hash((schedule.seed, step, engine.rank)))
            learning_rate = engine.learning_rate
            meter.add(engine.step(micro_batches))
            _after(step + 1, engine, schedule, hooks, meter, learning_rate)


def _after(
    done: int, engine: Stepper, schedule: Schedule, hooks: Hooks, meter: Meter, learning_rate: float
) -> None:
    last = done == schedule.steps
    if last or done % schedule.log_every == 0:
        hooks.report(done, meter.read(engine) | {"learning_rate": learning_rate})
    if last or done % schedule.evaluate_every == 0:
        if measured := hooks.evaluate():
            hooks.report(done, {f"held_out_{name}": value for name, value in measured.items()})
        meter.restart()
    if last or done % schedule.checkpoint_every == 0:
        hooks.checkpoint(done)
        meter.restart()


class Meter:
    """Means of the steps since the last reading, and samples a second over the steps alone."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._shares: dict[str, Tensor] = {}
        self._steps = 0
        self._elapsed_s = 0.0
        self.restart()

    def restart(self) -> None:
        """Leave out the time that passed since the last step."""
        self._at = time.perf_counter()

    def add(self, shares: Mapping[str, Tensor]) -> None:
        """Count a step."""
        for name, share in shares.items():
            self._shares[name] = self._shares[name] + share if name in self._shares else share
        self._steps += 1
        now = time.perf_counter()
        self._elapsed_s += now - self._at
        self._at = now

    def read(self, engine: Stepper) -> dict[str, float]:
        """Means over all ranks since the last reading; starts anew."""
        sums = engine.reduce(self._shares)
        means = {name: value / self._steps for name, value in sums.items()}
        means["samples_per_s"] = self._steps * self._batch / self._elapsed_s
        self._shares, self._steps, self._elapsed_s = {}, 0, 0.0
        return means
