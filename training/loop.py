"""The training loop: plain Python around an engine, with almost no cost of its own.

Decides when to report, evaluate and save. Knows neither batches nor what runs the step; nothing of Ray and
DeepSpeed.
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
    """The part of an engine that the loop needs."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def rank(self) -> int: ...
    def step(self, micro_batches: Sequence[Any]) -> dict[str, Tensor]: ...
    def reduce(self, shares: Mapping[str, Tensor]) -> dict[str, float]: ...


@dataclass(frozen=True)
class Schedule:
    """How often the loop reports, evaluates and saves; `batch` counts a step's samples over all workers."""

    steps: int
    batch: int
    seed: int
    log_every: int
    evaluate_every: int
    checkpoint_every: int


@dataclass(frozen=True)
class Hooks:
    """The functions that the loop calls, on every rank. `report` takes the step's number, from 1, and
    metrics."""

    report: Callable[[int, dict[str, float]], None]
    checkpoint: Callable[[int], None]
    evaluate: Callable[[], dict[str, float]]
    first_step: Callable[[float], None] = lambda seconds: None
    """Takes the seconds of the first step, including its batch."""


def train(
    engine: Stepper, batches: Callable[[int], Sequence[Any]], schedule: Schedule, hooks: Hooks, start: int
) -> None:
    """Take the steps from `start` to the end. `batches` returns a step's micro-batches for this rank.

    The next step's batches are made while the current step computes. Random numbers depend on seed, step and
    rank, so that a resumed run draws the same as an undisturbed one.
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
            meter.add(engine.step(micro_batches), is_first=step == start)
            if step == start:
                hooks.first_step(meter.first_step_s)
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
    """Means over the steps since the last reading, and their samples per second.

    The speed counts neither the first step, in which libraries set up, nor the time between steps.
    """

    def __init__(self, batch: int) -> None:
        self.first_step_s = 0.0
        self._batch = batch
        self._shares: dict[str, Tensor] = {}
        self._steps = 0
        self._timed_steps = 0
        self._elapsed_s = 0.0
        self.restart()

    def restart(self) -> None:
        """Don't count the time since the last step."""
        self._at = time.perf_counter()

    def add(self, shares: Mapping[str, Tensor], is_first: bool) -> None:
        """Count a step."""
        for name, share in shares.items():
            self._shares[name] = self._shares[name] + share if name in self._shares else share
        self._steps += 1
        now = time.perf_counter()
        if is_first:
            self.first_step_s = now - self._at
        else:
            self._timed_steps += 1
            self._elapsed_s += now - self._at
        self._at = now

    def read(self, engine: Stepper) -> dict[str, float]:
        """Means over all ranks since the last reading; no speed if only the first step was counted."""
        sums = engine.reduce(self._shares)
        means = {name: value / self._steps for name, value in sums.items()}
        if self._timed_steps:
            means["samples_per_s"] = self._timed_steps * self._batch / self._elapsed_s
        self._shares, self._steps, self._timed_steps, self._elapsed_s = {}, 0, 0, 0.0
        return means
