"""One rank of trainings as a process: `python -m tests.training_process STEP RANK OF STORE CONFIG…`.

It kills itself with SIGKILL when step STEP is reported.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist

from kinescribe.schemas.training import TRAININGS
from kinescribe.training.session import TrainSession


def main(last_step: str, rank: str, of: str, store: str, *config_files: str) -> None:
    def report(metrics: Mapping[str, float]) -> None:
        if metrics["step"] == int(last_step):
            os.kill(os.getpid(), signal.SIGKILL)

    given = [json.loads(Path(file).read_text()) for file in config_files]
    configs = [TRAININGS[config["task"]].model_validate(config) for config in given]
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = rank
    workers = int(of)
    dist.init_process_group("gloo", store=dist.FileStore(store, workers), rank=int(rank), world_size=workers)
    for config in configs:
        TrainSession(config, report, print).run()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
