"""What runs on Ray during a training: Ray Train's trainer, and on each worker `kinescribe.training.session`.

Knows how Ray passes arguments and reports, and nothing of what is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.util.queue import Queue

from kinescribe.schemas.errors import UserError
from kinescribe.schemas.training import TrainConfig


def train_worker(arguments: Mapping[str, Any]) -> None:
    """Run this worker's part of `config` on `threads` threads.

    Metrics, messages for the user and errors that the user can mend go to `reports`.
    """
    import torch

    from kinescribe.training.session import TrainSession

    config: TrainConfig = arguments["config"]
    reports: Queue = arguments["reports"]
    torch.set_num_threads(arguments["threads"])
    try:
        TrainSession(config, reports.put, reports.put).run()
    except UserError as error:
        # If it were raised here, Ray would count a lost worker and start the run again.
        reports.put(error)


def fit(config: TrainConfig, claims: Mapping[str, float], threads: int, reports: Queue) -> None:
    """Train to the end on workers with these claims.

    Make it a task: Ray Train has a handler of its own for Ctrl-C in a main thread, which hangs while it waits
    for machines, and in another thread it would use Ray after its shutdown, which ends the process at once.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    workers, fewest = config.engine.workers, config.engine.min_workers
    TorchTrainer(
        train_worker,
        train_loop_config={"config": config, "reports": reports, "threads": threads},
        torch_config=TorchConfig(backend="nccl" if "GPU" in claims else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(fewest, workers) if fewest else workers,
            use_gpu="GPU" in claims,
            resources_per_worker=dict(claims),
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=config.out,
            failure_config=FailureConfig(max_failures=config.engine.max_failures),
        ),
    ).fit()
