"""Trains on Ray: binds the folder to the run, starts the workers, passes on what they report.

Knows Ray Train; nothing of models or of what a step is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue

from actors.train_worker import train_worker
from cluster.local import ray_cluster
from cluster.resources import ClusterResources
from models.identity import identify
from schemas.clips import stable_id
from schemas.errors import ConfigError, UserError
from schemas.training import DynamicsTraining, TrainConfig
from schemas.version import VERSION
from storage import uri
from storage.run import Run, bind
from storage.shards import scan

Progress = Callable[[Mapping[str, float]], None]
POLL_S = 0.5


def run_train(config: TrainConfig, progress: Progress | None = None) -> Path:
    """Train to the end and return the export's folder; run again to resume, or to find it finished.

    Raises UserError for what the user can mend, before any worker starts where that is possible.
    """
    if not uri.is_local(config.out):
        raise ConfigError(f"out must be a local or shared folder, got {config.out}; upload the export after")
    config = config.model_copy(update={"out": str(uri.local_path(config.out).absolute())})
    bind(config.out, _identity(config))
    export = Path(config.out, "export")
    if not export.is_dir():
        with ray_cluster() as cluster:
            _fit(config, cluster, progress or print_progress)
    return export


def print_progress(metrics: Mapping[str, float]) -> None:
    """A line of step, metrics and time left."""
    print(progress_line(metrics), flush=True)


def progress_line(metrics: Mapping[str, float]) -> str:
    """`step 40/100, loss 1.23, 31.0 samples/s, 124 s left`."""
    shown = dict(metrics)
    parts = [f"step {shown.pop('step'):.0f}/{shown.pop('steps'):.0f}"]
    return ", ".join(parts + [f"{name} {value:.5g}" for name, value in shown.items()])


def _identity(config: TrainConfig) -> Run:
    """What the weights are a function of; any change of it is another run."""
    values = config.model_dump(mode="json", exclude={"out", "data", "held_out"})
    objects = [sorted(Path(file).name for file in scan(dataset).files) for dataset in config.data]
    models: dict[str, str] = {}
    if isinstance(config, DynamicsTraining) and config.init:
        models["init"] = identify(config.init).fingerprint
    return Run(VERSION, values, models, codec_id="none", grid=(0, 0), plan=stable_id(*objects))


def _fit(config: TrainConfig, cluster: ClusterResources, progress: Progress) -> None:
    workers = config.engine.workers
    threads = max(1, int(cluster.cpus) // workers)
    reports = Queue(actor_options={"num_cpus": 0})
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"config": config, "reports": reports, "threads": threads},
        torch_config=TorchConfig(backend="nccl" if cluster.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=cluster.gpus > 0,
            resources_per_worker={"CPU": min(1, cluster.cpus / (workers + 1))},
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=config.out,
            failure_config=FailureConfig(max_failures=config.engine.max_failures),
        ),
    )
    with _passing_on(reports, progress):
        trainer.fit()


class _passing_on:
    """Calls `progress` with every report, from a thread, until the block ends and the queue is empty.

    Raises the error that a worker reported, once the block has ended.
    """

    def __init__(self, reports: Queue, progress: Progress) -> None:
        self.reports = reports
        self.progress = progress
        self.over = threading.Event()
        self.error: UserError | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: Any) -> None:
        self.over.set()
        self.thread.join()
        if self.error:
            raise self.error

    def _run(self) -> None:
        while True:
            try:
                report = self.reports.get(timeout=POLL_S)
            except Empty:
                if self.over.is_set():
                    return
                continue
            if isinstance(report, UserError):
                self.error = report
            else:
                self.progress(report)
