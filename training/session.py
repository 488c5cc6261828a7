"""One worker's part of a training run, from its configuration to the export.

Connects task, engine, loop and checkpoints, for any number of workers. Needs an open process group. Knows
nothing of Ray.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist

from kinescribe.schemas.errors import UserError
from kinescribe.schemas.training import TrainConfig
from kinescribe.training import checkpoints, exports
from kinescribe.training.batches import num_micro_batches, rank_part
from kinescribe.training.engine import DeepSpeedEngine
from kinescribe.training.loop import Hooks, Schedule, train
from kinescribe.training.metrics import MetricsLog
from kinescribe.training.tasks import make_task

Report = Callable[[Mapping[str, float]], None]
"""Takes `step`, `steps` and the metrics, with `left_s` if the speed was measured; called on the first
rank."""
Say = Callable[[str], None]
"""Takes a message for the user; called on the first rank."""


class TrainSession:
    """A worker's state: task, engine and progress."""

    def __init__(self, config: TrainConfig, report: Report, say: Say) -> None:
        self.config = config
        self.report = report
        self.say = say
        self.out = Path(config.out)
        self.task = make_task(config)
        self.steps = config.num_steps(len(self.task.batches))
        self.engine = DeepSpeedEngine(
            self.task.module,
            config.optimization,
            config.engine,
            self.steps,
            config.rank_micro_batch,
            num_micro_batches(config.batch, dist.get_world_size(), config.rank_micro_batch),
        )
        self.attempt = self.engine.agree(uuid.uuid4().hex)
        self.log: MetricsLog | None = None

    def run(self) -> None:
        """Resume or begin, train to the last step, and write the export.

        Raises ModelError on every rank if there are checkpoints and all are damaged.
        """
        start = self._resume()
        resumed = f", resumed after step {start:,}" if start else ""
        self._say(f"{len(self.task.batches):,} samples, {self.steps:,} steps of {self.config.batch}{resumed}")
        hooks = Hooks(self._report, self._checkpoint, self._evaluate, self._first_step)
        with contextlib.ExitStack() as stack:
            if self.engine.rank == 0:
                self.log = stack.enter_context(MetricsLog(self.out, start))
            train(self.engine, self._batches, self._schedule(), hooks, start)
        self._export()

    def _resume(self) -> int:
        folder = self.out / "checkpoints"
        if self.engine.rank == 0:
            exports.remove_abandoned(self.out)
        # If one rank raised the error, the others would wait for it.
        step = self.engine.agree(self._newest(folder) if self.engine.rank == 0 else 0)
        if isinstance(step, UserError):
            raise step
        if step:
            self.engine.load(checkpoints.checkpoint_folder(folder, step))
        return step

    def _newest(self, folder: Path) -> int | UserError:
        try:
            checkpoint = checkpoints.newest(folder, self.say)
        except UserError as error:
            return error
        return checkpoint[0] if checkpoint else 0

    def _batches(self, step: int) -> Sequence[Any]:
        positions = self.task.order.positions(step)
        parts = rank_part(positions, self.engine.rank, self.engine.world_size, self.config.rank_micro_batch)
        return [self.task.batches.batch([self.task.order.sample(p) for p in part], part) for part in parts]

    def _evaluate(self) -> dict[str, float]:
        held_out = self.task.held_out
        if held_out is None:
            return {}
        samples = range(min(len(held_out), self.config.held_out_samples))
        size = self.config.rank_micro_batch
        parts = [samples[start : start + size] for start in range(0, len(samples), size)]
        mine = parts[self.engine.rank :: self.engine.world_size]
        # Every rank runs the same number of batches, since ZeRO-3 collects weights from all ranks in each.
        # The last one may be another rank's, and doesn't count here.
        num = -(-len(parts) // self.engine.world_size)
        batches = [held_out.batch(part, part) for part in (mine + parts)[:num]]
        return self.engine.reduce(self.engine.evaluate(batches, len(mine)))

    def _say(self, text: str) -> None:
        if self.engine.rank == 0:
            self.say(text)

    def _first_step(self, seconds: float) -> None:
        self._say(f"the first step took {seconds:.1f} s")

    def _report(self, step: int, metrics: dict[str, float]) -> None:
        if self.log is None:
            return
        self.log.write(step, metrics)
        config = self.config
        if "samples_per_s" in metrics:
            metrics["left_s"] = (self.steps - step) * config.batch / metrics["samples_per_s"]
        self.report({"step": step, "steps": self.steps, **metrics})

    def _checkpoint(self, step: int) -> None:
        folder = self.out / "checkpoints"
        written = checkpoints.hidden_folder(folder, step, self.attempt)
        self.engine.save(written)
        self.engine.barrier()
        if self.engine.rank == 0:
            checkpoints.publish(folder, step, written, self.config.keep_checkpoints)
        self.engine.barrier()

    def _export(self) -> None:
        self._say("writing the export")
        with self.engine.gathered():
            if self.engine.rank == 0:
                with exports.publishing(self.out, self.attempt) as folder:
                    self.task.export(folder)
        self.engine.barrier()

    def _schedule(self) -> Schedule:
        config = self.config
        return Schedule(
            steps=self.steps,
            batch=config.batch,
            seed=config.seed,
            log_every=config.log_every,
            evaluate_every=config.evaluate_every,
            checkpoint_every=config.checkpoint_every,
        )
