"""One worker's part of a training run, from its configuration to the export.

Puts the room's pieces together, for any number of workers; runs inside a process group that somebody
else opened. Knows nothing of Ray.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from torch import nn

from models.codec import ImageCodec
from models.fresh import new_codec, new_token_vlm, new_tokenizer
from models.registry import load_model
from models.token_vlm import TokenVLM
from schemas.training import CodecTraining, DynamicsTraining, Lora, TrainConfig
from training import checkpoints
from training.batches import Batches, PackedTriplets, SampleOrder, TripletBatches, rank_part, read_triplets
from training.codec_objective import CodecObjective
from training.engine import DeepSpeedEngine
from training.images import ImageBatches, read_images
from training.loop import Hooks, Schedule, train
from training.metrics import MetricsLog
from training.objective import TokenObjective

LORA_TARGETS = r"^(?!.*(vision|visual|vqmodel)).*\.layers\.\d+\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj$"
"""The language model's projections alone; `all-linear` leaks into vision parts."""

Report = Callable[[Mapping[str, float]], None]
"""Gets `step`, `steps` and whatever was measured; called on the first rank."""


class Job(Protocol):
    """What is trained: a module, its data, and how the result is written."""

    module: nn.Module
    batches: Batches
    held_out: Batches | None

    def export(self, folder: Path) -> None:
        """Write the result; called with all weights in this process."""
        ...


class CodecJob:
    """An image codec, on the images of datasets."""

    def __init__(self, config: CodecTraining) -> None:
        new = config.model
        self.codec = (
            ImageCodec.load(Path(config.init))
            if config.init
            else new_codec(new.resolution, new.patch, new.channels, new.num_codes, new.dims)
        )
        self.module = CodecObjective(self.codec.network, config)
        resolution = self.codec.resolution
        self.batches: Batches = ImageBatches(
            read_images(config.data), resolution, config.crop_scale, config.seed
        )
        self.held_out: Batches | None = (
            ImageBatches(read_images(config.held_out), resolution, None, config.seed)
            if config.held_out
            else None
        )

    def export(self, folder: Path) -> None:
        """A VQModel folder that `ImageCodec.load` opens."""
        with torch.no_grad():
            ImageCodec(self.module.export()).save(folder)


class DynamicsJob:
    """A unified model on the dynamics task, on the codes of datasets."""

    def __init__(self, config: DynamicsTraining) -> None:
        triplets = read_triplets(config.data)
        self.vlm = _start(config, triplets)
        if not torch.cuda.is_available():
            # torch's fused attention takes four times as long backwards in bf16 on a CPU.
            self.vlm.network.set_attn_implementation("eager")
        if config.compile:
            self.vlm.network.base_model.compile(dynamic=False)
        self.lora = config.lora is not None
        if config.lora:
            self.vlm.network = _with_adapters(self.vlm.network, config.lora)
        self.module = TokenObjective(self.vlm.network)
        weighing = (config.context_weight, config.importance_floor)
        self.batches: Batches = TripletBatches(triplets, self.vlm, *weighing)
        self.held_out: Batches | None = (
            TripletBatches(read_triplets(config.held_out), self.vlm, 0.0, config.importance_floor)
            if config.held_out
            else None
        )

    def export(self, folder: Path) -> None:
        """A folder that `load_model` opens; with LoRA, merged, and the adapter alone in `adapter/`."""
        if self.lora:
            adapted: Any = self.vlm.network
            adapted.save_pretrained(folder / "adapter")
            self.vlm.network = adapted.merge_and_unload()
        self.vlm.save(folder)


def _start(config: DynamicsTraining, triplets: PackedTriplets) -> TokenVLM:
    if config.init:
        return load_model(config.init)
    assert config.model is not None
    new = config.model
    tokenizer = new_tokenizer(triplets.actions.dictionary.to_pylist(), new.vocabulary)
    return new_token_vlm(ImageCodec.load(Path(new.codec)), tokenizer, new.hidden, new.layers, new.heads)


def _with_adapters(network: Any, lora: Lora) -> Any:
    return get_peft_model(
        network,
        LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=LORA_TARGETS
        ),
    )


def make_job(config: TrainConfig) -> Job:
    """The job of a configuration; new weights are drawn from its seed."""
    torch.manual_seed(config.seed)
    if isinstance(config, CodecTraining):
        return CodecJob(config)
    assert isinstance(config, DynamicsTraining)
    return DynamicsJob(config)


class TrainSession:
    """A worker's state: job, engine and where it stands."""

    def __init__(self, config: TrainConfig, report: Report) -> None:
        self.config = config
        self.report = report
        self.out = Path(config.out)
        self.job = make_job(config)
        per_rank = config.batch // config.engine.workers
        self.engine = DeepSpeedEngine(
            self.job.module,
            config.optimization,
            config.engine,
            config.steps,
            config.rank_micro_batch,
            per_rank // config.rank_micro_batch,
        )
        self.order = SampleOrder(len(self.job.batches), config.batch, config.seed)

    def run(self) -> None:
        """Resume or begin, train to the last step, write the export."""
        self.attempt = self.engine.agree(uuid.uuid4().hex)
        start = self._resume()
        self.log = MetricsLog(self.out, start) if self.engine.rank == 0 else None
        config = self.config
        schedule = Schedule(
            steps=config.steps,
            batch=config.batch,
            seed=config.seed,
            log_every=config.log_every,
            evaluate_every=config.evaluate_every,
            checkpoint_every=config.checkpoint_every,
        )
        hooks = Hooks(self._report, self._checkpoint, self._evaluate)
        train(self.engine, self._batches, schedule, hooks, start)
        if self.log:
            self.log.close()
        self._export()

    def _resume(self) -> int:
        folder = self.out / "checkpoints"
        found = checkpoints.newest(folder, print) if self.engine.rank == 0 else None
        step = int(self.engine.agree(str(found[0] if found else 0)))
        if step:
            self.engine.load(checkpoints.named(folder, step))
        return step

    def _batches(self, step: int) -> Sequence[Any]:
        positions = self.order.positions(step)
        parts = rank_part(positions, self.engine.rank, self.engine.world_size, self.config.rank_micro_batch)
        return [self.job.batches.batch([self.order.sample(p) for p in part], part) for part in parts]

    def _evaluate(self) -> dict[str, float]:
        held_out = self.job.held_out
        if held_out is None:
            return {}
        samples = range(min(len(held_out), self.config.held_out_samples))
        samples = samples[self.engine.rank :: self.engine.world_size]
        size = self.config.rank_micro_batch
        parts = [samples[start : start + size] for start in range(0, len(samples), size)]
        return self.engine.reduce(self.engine.evaluate([held_out.batch(part, part) for part in parts]))

    def _report(self, step: int, metrics: dict[str, float]) -> None:
        if self.log:
            self.log.write(step, metrics)
            self.report({"step": step, "steps": self.config.steps, **metrics})

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


def assert_full(folder: Path) -> None:
    """Every tensor of every safetensors file has elements: ZeRO-3 has saved empty ones."""
    files = list(folder.rglob("*.safetensors"))
    assert files, folder
    for path in files:
        with safe_open(path, "pt") as tensors:
            empty = [name for name in tensors.keys() if 0 in tensors.get_slice(name).get_shape()]  # noqa: SIM118
        assert not empty, f"{path} has empty tensors: {empty}"
