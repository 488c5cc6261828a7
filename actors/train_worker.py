"""What Ray Train runs on each worker: delegates to `kinescribe.training.session.TrainSession`.

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
