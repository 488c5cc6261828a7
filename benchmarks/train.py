"""Steps of world-model training: weighted against unweighted, and against a bare loop; one line of JSON.

Uses the embedded model and simulated triplets. Three sides take turns on the same batches:
`training/loop.py` with `training/engine.py` with weights l2 and with none, and a hand-written loop with
transformers and DeepSpeed for the unweighted loss, with prepared batches. All run on one CPU thread and
measure its time, which other programs affect least. Ratios are medians over rounds in which each side has a
turn; `spread` has their quartiles.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

from kinescribe.models.checkpoint_files import CODEC, EMBEDDED
from kinescribe.models.codec import ImageCodec
from kinescribe.schemas.training import WorldTraining
from kinescribe.simulation.triplets import write_triplets
from kinescribe.training.engine import DeepSpeedEngine
from kinescribe.training.loop import Hooks, Schedule, train
from kinescribe.training.metrics import MetricsLog
from kinescribe.training.objective import TokenBatch
from kinescribe.training.tasks import TrainingTask, make_task

Turn = Callable[[int, int], None]
"""Runs the steps from one number to another."""


def made(task: TrainingTask, step: int) -> list[TokenBatch]:
    """The single micro-batch of a step."""
    positions = task.order.positions(step)
    return [task.batches.batch([task.order.sample(position) for position in positions], positions)]


def kinescribe(config: WorldTraining, task: TrainingTask, steps: int) -> Turn:
    """The project's loop and engine, logging at the end of each turn."""
    engine = DeepSpeedEngine(
        task.module, config.optimization, config.engine, steps, config.rank_micro_batch, 1
    )
    hooks = Hooks(MetricsLog(Path(config.out), 0).write, lambda step: None, dict)

    def turn(start: int, end: int) -> None:
        schedule = Schedule(end, config.batch, config.seed, steps, steps, steps)
        train(engine, partial(made, task), schedule, hooks, start)

    return turn


def bare(config: WorldTraining, batches: Sequence[TokenBatch]) -> Turn:
    """A bare loop: only what the loss needs, with prepared batches."""
    import deepspeed  # after kinescribe.training.engine, which avoids the need for a compiler

    network = AutoModelForCausalLM.from_pretrained(EMBEDDED["embedded"])
    chosen = config.optimization
    warmup = {"num_warmup_steps": chosen.warmup_steps, "num_training_steps": len(batches)}
    schedule: Any = partial(get_cosine_schedule_with_warmup, **warmup)
    engine: Any = deepspeed.initialize(
        model=network,
        optimizer=torch.optim.AdamW(
            network.parameters(),
            chosen.learning_rate,
            chosen.betas,
            weight_decay=chosen.weight_decay,
            fused=True,
        ),
        lr_scheduler=schedule,
        dist_init_required=False,
        config={
            "train_micro_batch_size_per_gpu": config.batch,
            "gradient_clipping": chosen.clip_norm,
            "zero_optimization": {"stage": config.engine.zero_stage},
            "steps_per_print": 1 << 62,
        },
    )[0]
    ready = [(batch.ids_BT, batch.positions_BT, next_tokens(batch)) for batch in batches]

    def turn(start: int, end: int) -> None:
        for step in range(start, end):
            ids_BT, positions_BT, next_BK = ready[step]
            logits_BKV = engine(
                input_ids=ids_BT,
                position_ids=positions_BT,
                logits_to_keep=next_BK.shape[1],
                use_cache=False,
            ).logits
            engine.backward(F.cross_entropy(logits_BKV.flatten(0, 1), next_BK.flatten()))
            engine.step()

    return turn


def next_tokens(batch: TokenBatch) -> torch.Tensor:
    """The tokens that follow the last K, from the first target on; -100 for tokens that are not targets."""
    targets_BT = torch.where(batch.weights_BT > 0, batch.ids_BT, -100)
    next_BT = F.pad(targets_BT[:, 1:], (0, 1), value=-100)
    return next_BT[:, int((next_BT >= 0).any(0).int().argmax()) :].contiguous()


def timed(turn: Callable[[], object]) -> float:
    """Seconds of this process's CPU time."""
    started = time.process_time()
    turn()
    return time.process_time() - started


def rounds(sides: dict[str, Turn], num: int, steps: int) -> Iterator[dict[str, float]]:
    """Seconds per step of each side and round, after a warm-up round; the sides take turns at going first."""
    names = list(sides)
    for index in range(num + 1):
        names.append(names.pop(0))
        span = (index * steps, (index + 1) * steps)
        step_s = {name: timed(partial(sides[name], *span)) / steps for name in names}
        if index:
            yield step_s


def ratio(name: str, values: Sequence[float]) -> dict[str, Any]:
    quartiles = statistics.quantiles(values, n=4)
    return {name: round(quartiles[1], 3), f"{name}_spread": [round(quartiles[0], 3), round(quartiles[2], 3)]}


def measure(folder: Path, batch: int, num: int, steps: int) -> dict[str, Any]:
    write_triplets(str(folder / "triplets"), 1, "train", 0, ImageCodec.load(EMBEDDED["embedded"] / CODEC))
    given = {"data": [str(folder / "triplets")], "init": "embedded", "batch": batch}
    total = (num + 1) * steps
    given |= {"steps": total, "log_every": 1, "engine": {"precision": "fp32"}}
    weighted, unweighted = (
        WorldTraining.model_validate(given | {"out": str(folder / weights), "weights": weights})
        for weights in ("l2", "none")
    )
    tasks = make_task(weighted), make_task(unweighted)
    ready = [made(tasks[1], step)[0] for step in range(total)]
    sides = {
        "weighted": kinescribe(weighted, tasks[0], total),
        "unweighted": kinescribe(unweighted, tasks[1], total),
        "bare": bare(unweighted, ready),
    }
    found = list(rounds(sides, num, steps))
    batch_s = timed(lambda: [made(tasks[0], step) for step in range(total)]) / total
    medians = {name: statistics.median(step_s[name] for step_s in found) for name in sides}
    return {
        **{f"{name}_cpu_s": round(seconds, 4) for name, seconds in medians.items()},
        **ratio("weighted_to_unweighted", [step_s["unweighted"] / step_s["weighted"] for step_s in found]),
        **ratio("ours_to_bare", [step_s["bare"] / step_s["unweighted"] for step_s in found]),
        "batch_to_step": round(batch_s / medians["weighted"], 4),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--rounds", type=int, default=16)
    options.add_argument("--steps", type=int, default=3, help="of each side in a round")
    chosen = options.parse_args()
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "LOCAL_RANK": "0"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), chosen.batch, chosen.rounds, chosen.steps)
    dist.destroy_process_group()
    machine = f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores"
    print(json.dumps({"benchmark": "train", "machine": machine, "batch": chosen.batch} | figures))


if __name__ == "__main__":
    main()
