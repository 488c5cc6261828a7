"""The size of a training, found by building it without the weights of `init`. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from kinescribe.schemas.training import CodecTraining, TrainConfig
from kinescribe.training.activations import activation_bytes
from kinescribe.training.engine import multiplies_in_bf16
from kinescribe.training.tasks import make_task

FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The size of a training."""

    samples: int
    held_out_samples: int
    steps: int
    batch: int
    workers: int
    micro_batch: int
    parameters: int
    trained_parameters: int
    state_bytes: int
    """Weights, gradients and Adam's moments on each worker, in float32."""
    activation_bytes: int | None
    """What the first micro-batch's forward keeps for its backward on each worker, including bf16 casts of
    weights; None if shapes in the network depend on values."""


def dry_run(config: TrainConfig) -> TrainingPlan:
    """The plan of a training. Raises UserError if its data, selection, model or codec would stop it."""
    task = make_task(config, torch.device("meta"))
    held_out = min(len(task.held_out), config.held_out_samples) if task.held_out else 0
    first = range(config.rank_micro_batch)
    batch = task.batches.batch([task.order.sample(position) for position in first], first)
    task.module.train(
        not isinstance(config, CodecTraining)
    )  # its codebook would communicate with other workers
    total, trained = _count(task.module.parameters()), _count(_trained(task.module))
    return TrainingPlan(
        samples=len(task.batches),
        held_out_samples=held_out,
        steps=config.num_steps(len(task.batches)),
        batch=config.batch,
        workers=config.engine.workers,
        micro_batch=config.rank_micro_batch,
        parameters=total,
        trained_parameters=trained,
        state_bytes=state_bytes(total, trained, config.engine.zero_stage, config.engine.workers),
        activation_bytes=activation_bytes(task.module, batch, multiplies_in_bf16(config.engine.precision)),
    )


def state_bytes(parameters: int, trained: int, zero_stage: int, workers: int) -> int:
    """Bytes on one worker. Each ZeRO stage shards one more of moments, gradients and weights."""
    moments, gradients, weights = (
        count / (workers if zero_stage >= stage else 1)
        for stage, count in ((1, 2 * trained), (2, trained), (3, parameters))
    )
    return round(FLOAT_BYTES * (moments + gradients + weights))


def _trained(module: nn.Module) -> Iterable[nn.Parameter]:
    return (parameter for parameter in module.parameters() if parameter.requires_grad)


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
