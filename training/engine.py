"""The only importer of DeepSpeed, which it hides behind five verbs: step, evaluate, save, load, gathered.

Takes any module that maps a batch to sums over its weighted parts, including `loss`. Knows nothing of what
the module computes, of datasets, of Ray or of when to save.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from kinescribe.schemas.config import Precision
from kinescribe.schemas.training import Engine, Optimization

# It warns while it is imported that there is no GPU.
logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
import deepspeed  # noqa: E402

Value = TypeVar("Value")
# Its shared-memory all-reduce is for inference; building it takes a compiler and most of a minute.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


class Batch(Protocol):
    """A tuple of tensors that knows the divisor of its sums."""

    @property
    def total_weight(self) -> float: ...


class DeepSpeedEngine:
    """A module with its optimizer and schedule, distributed over the ranks of the process group.

    A step's loss is Σ w·loss / Σ w over the whole global batch, independent of how it is cut into ranks and
    micro-batches.
    """

    def __init__(
        self,
        module: nn.Module,
        optimization: Optimization,
        engine: Engine,
        steps: int,
        micro_batch: int,
        accumulation: int,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.bf16 = multiplies_in_bf16(engine.precision)
        self.accumulation = accumulation
        self.zero_stage = engine.zero_stage
        optimizer, settings = _optimizer(module, optimization)
        schedule: Any = partial(
            get_cosine_schedule_with_warmup,
            num_warmup_steps=optimization.warmup_steps,
            num_training_steps=steps,
        )
        self._engine: Any = deepspeed.initialize(
            model=module,
            **optimizer,
            lr_scheduler=schedule,
            dist_init_required=False,
            config={
                "train_micro_batch_size_per_gpu": micro_batch,
                "gradient_accumulation_steps": accumulation,
                "gradient_clipping": optimization.clip_norm,
                "zero_optimization": {"stage": engine.zero_stage},
                "steps_per_print": 1 << 62,
                **settings,
            },
        )[0]

    @property
    def rank(self) -> int:
        """The rank of this process."""
        return dist.get_rank()

    @property
    def world_size(self) -> int:
        """Number of workers."""
        return dist.get_world_size()

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return self._engine.get_lr()[0]

    def step(self, micro_batches: Sequence[Batch]) -> dict[str, Tensor]:
        """One optimizer step on this rank's part of the global batch.

        Returns this rank's share of each mean of the step; the sum over ranks is the mean.
        """
        assert len(micro_batches) == self.accumulation
        self._engine.train()
        weight = self._global_weight(micro_batches)
        totals: dict[str, Tensor] = {}
        for batch in micro_batches:
            sums = self._forward(batch)
            # DeepSpeed averages gradients over ranks and micro-batches; the equation sums them.
            self._engine.backward(sums["loss"] * (self.world_size * self.accumulation / weight))
            self._engine.step()
            _add(totals, sums)
        return {name: total / weight for name, total in totals.items()}

    @torch.no_grad()
    def evaluate(self, batches: Sequence[Batch], num_counted: int) -> dict[str, Tensor]:
        """This rank's share of the means over all ranks' batches, in evaluation mode.

        Every rank passes the same number of batches, of which the first `num_counted` count.
        """
        self._engine.eval()
        weight = self._global_weight(batches[:num_counted])
        totals: dict[str, Tensor] = {}
        for place, batch in enumerate(batches):
            counts = place < num_counted
            _add(totals, {name: counts * value for name, value in self._forward(batch).items()})
        return {name: total / weight for name, total in totals.items()}

    def reduce(self, shares: Mapping[str, Tensor]) -> dict[str, float]:
        """The sum over ranks of each rank's share."""
        values = torch.stack([value.double() for value in shares.values()])
        dist.all_reduce(values)
        return dict(zip(shares, values.tolist(), strict=True))

    def save(self, folder: Path) -> None:
        """Write this rank's part of weights, optimizer and schedule. Every rank must call it."""
        self._engine.save_checkpoint(str(folder), tag="state", save_latest=False)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote. Sharded state needs the same number of workers."""
        path, _ = self._engine.load_checkpoint(str(folder), tag="state")
        assert path is not None, folder

    @contextlib.contextmanager
    def gathered(self) -> Generator[nn.Module]:
        """The module with all of its weights in this process, which ZeRO-3 keeps sharded."""
        module: nn.Module = self._engine.module.eval()
        if self.zero_stage < 3:
            yield module
            return
        with deepspeed.zero.GatheredParameters(list(module.parameters())):
            yield module

    def barrier(self) -> None:
        """Wait for every rank."""
        dist.barrier()

    def agree(self, value: Value) -> Value:
        """The first rank's value, on every rank."""
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def _forward(self, batch: Any) -> dict[str, Tensor]:
        batch = type(batch)(*map(self._placed, batch))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self._engine(batch)

    def _placed(self, part: Any) -> Any:
        """A tensor, or a mapping of tensors, on the network's device."""
        if isinstance(part, Mapping):
            return {name: self._placed(tensor) for name, tensor in part.items()}
        return part.to(self.device, non_blocking=True)

    def _global_weight(self, batches: Sequence[Batch]) -> float:
        weight = torch.tensor(sum(batch.total_weight for batch in batches), dtype=torch.float64)
        weight = weight.to(self.device)
        dist.all_reduce(weight)
        return float(weight)


def multiplies_in_bf16(precision: Precision) -> bool:
    """Whether a worker on this kind of machine computes in bf16."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    # Processors with avx512_bf16 but no matrix unit multiply bf16 at half the speed of float32.
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def _optimizer(module: nn.Module, optimization: Optimization) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments and the configuration of `deepspeed.initialize` for the optimizer."""
    groups = _decay_groups(module, optimization.weight_decay)
    adam: dict[str, Any] = {"lr": optimization.learning_rate, "betas": optimization.betas}
    if optimization.muon_learning_rate is None:
        return {"optimizer": torch.optim.AdamW(groups, fused=True, **adam)}, {}
    # DeepSpeed's Muon takes every matrix except embeddings and output head; Adam takes the rest.
    muon = {"muon_lr": optimization.muon_learning_rate, "ns_method": "standard", "torch_adam": True}
    return {"model_parameters": groups}, {"optimizer": {"type": "Muon", "params": {**adam, **muon}}}


def _decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _add(totals: dict[str, Tensor], sums: Mapping[str, Tensor]) -> None:
    for name, value in sums.items():
        totals[name] = totals[name] + value.detach() if name in totals else value.detach()
