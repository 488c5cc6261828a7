"""What Ray Train runs on each worker: a thin shell around `training.session.TrainSession`.

Knows how Ray names ranks and carries reports; nothing of what is trained.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import ray.train
from ray.util.queue import Queue

from schemas.training import TrainConfig


def train_worker(arguments: Mapping[str, Any]) -> None:
    """Run this worker's part of `arguments["config"]`; metrics go to `arguments["reports"]`."""
    import torch

    from training.session import TrainSession

    config: TrainConfig = arguments["config"]
    reports: Queue = arguments["reports"]
    torch.set_num_threads(arguments["threads"])
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "false"
    TrainSession(config, reports.put).run()
    ray.train.report({})
