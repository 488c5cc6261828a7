"""One worker's part of a training run, from its configuration to the export.

Puts the room's pieces together, for any number of workers; runs inside a process group that somebody
else opened. Knows nothing of Ray.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist

from kinescribe.schemas.errors import UserError
from kinescribe.schemas.training import TrainConfig
from kinescribe.training import checkpoints
from kinescribe.training.batches import num_micro_batches, rank_part
from kinescribe.training.engine import DeepSpeedEngine
from kinescribe.training.jobs import assert_full, make_job
from kinescribe.training.loop import Hooks, Schedule, train
from kinescribe.training.metrics import MetricsLog

Report = Callable[[Mapping[str, float]], None]
"""Gets `step`, `steps` and what was measured, with `left_s` where speed was; called on the first rank."""
Say = Callable[[str], None]
"""Gets what the user should know; called on the first rank."""


class TrainSession:
    """A worker's state: job, engine and where it stands."""

    def __init__(self, config: TrainConfig, report: Report, say: Say) -> None:
        self.config = config
        self.report = report
        self.say = say
        self.out = Path(config.out)
        self.job = make_job(config)
        self.steps = config.num_steps(len(self.job.batches))
        self.engine = DeepSpeedEngine(
            self.job.module,
            config.optimization,
            config.engine,
            self.steps,
            config.rank_micro_batch,
            num_micro_batches(config.batch, dist.get_world_size(), config.rank_micro_batch),
        )
        self.attempt = self.engine.agree(uuid.uuid4().hex)
        self.log: MetricsLog | None = None

    def run(self) -> None:
        """Resume or begin, train to the last step, write the export.

        Raises ModelError, on every rank, where there are checkpoints and all are damaged.
        """
        start = self._resume()
        hooks = Hooks(self._report, self._checkpoint, self._evaluate)
        with contextlib.ExitStack() as stack:
            if self.engine.rank == 0:
                self.log = stack.enter_context(MetricsLog(self.out, start))
            train(self.engine, self._batches, self._schedule(), hooks, start)
        self._export()

    def _resume(self) -> int:
        folder = self.out / "checkpoints"
        # Raised on one rank alone, the error would leave the others waiting.
        step = self.engine.agree(self._newest(folder) if self.engine.rank == 0 else 0)
        if isinstance(step, UserError):
            raise step
        if step:
            self.engine.load(checkpoints.named(folder, step))
        return step

    def _newest(self, folder: Path) -> int | UserError:
        try:
            found = checkpoints.newest(folder, self.say)
        except UserError as error:
            return error
        return found[0] if found else 0

    def _batches(self, step: int) -> Sequence[Any]:
        positions = self.job.order.positions(step)
        parts = rank_part(positions, self.engine.rank, self.engine.world_size, self.config.rank_micro_batch)
        return [self.job.batches.batch([self.job.order.sample(p) for p in part], part) for part in parts]

    def _evaluate(self) -> dict[str, float]:
        held_out = self.job.held_out
        if held_out is None:
            return {}
        samples = range(min(len(held_out), self.config.held_out_samples))
        size = self.config.rank_micro_batch
        parts = [samples[start : start + size] for start in range(0, len(samples), size)]
        mine = parts[self.engine.rank :: self.engine.world_size]
        # Every rank goes through as many, since ZeRO-3 collects the weights from all ranks at each; the last
        # may be another rank's, which does not count here.
        num = -(-len(parts) // self.engine.world_size)
        batches = [held_out.batch(part, part) for part in (mine + parts)[:num]]
        return self.engine.reduce(self.engine.evaluate(batches, len(mine)))

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
        written = checkpoints.aside(folder, step, self.attempt)
        self.engine.save(written)
        self.engine.barrier()
        if self.engine.rank == 0:
            checkpoints.publish(folder, step, written, self.config.keep_checkpoints)
        self.engine.barrier()

    def _export(self) -> None:
        """Write aside, verify, rename: an `export` that is there is whole."""
        written = self.out / f".export-{self.attempt}"
        with self.engine.gathered():
            if self.engine.rank == 0:
                self.job.export(written)
        if self.engine.rank == 0:
            assert_full(written)
            shutil.rmtree(self.out / "export", ignore_errors=True)
            written.rename(self.out / "export")
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
