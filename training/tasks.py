"""Training tasks: the module that is trained, its data, and how the result is written.

Knows models and datasets; nothing of steps, ranks or checkpoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import nn

from kinescribe.models.checkpoint_files import family_named, model_folder
from kinescribe.models.codec import ImageCodec, VQModel
from kinescribe.models.families import CHAT, EDIT
from kinescribe.models.initialization import new_codec, new_token_vlm, new_tokenizer
from kinescribe.models.token_vlm import TokenVLM
from kinescribe.schemas.codes import fit_of
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.prompts import DEFAULT
from kinescribe.schemas.training import (
    CodecTraining,
    DynamicsTraining,
    TokenTraining,
    TrainConfig,
    WorldTraining,
)
from kinescribe.training.batches import (
    Batches,
    Order,
    PackedTriplets,
    SampleOrder,
    TripletBatches,
    mixed_order,
    read_triplets,
)
from kinescribe.training.codec_objective import CodecObjective
from kinescribe.training.images import ImageBatches, read_images
from kinescribe.training.objective import TokenObjective
from kinescribe.training.usual_likelihoods import write_usual_likelihoods


class TrainingTask(ABC):
    """A module, its data, and how the result is written."""

    module: nn.Module
    """Maps a batch to sums over its weighted parts, including `loss`."""
    batches: Batches
    held_out: Batches | None
    order: Order

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the result. Called while this process has all weights."""


class CodecTask(TrainingTask):
    """Trains an image codec on the images of datasets."""

    def __init__(self, config: CodecTraining) -> None:
        new = config.model
        self.codec = (
            ImageCodec.load(Path(config.init))
            if config.init
            else new_codec(new.resolution, new.patch, new.channels, new.num_codes, new.dims)
        )
        if not isinstance(self.codec.network, VQModel):
            raise ConfigError(f"init: {config.init} is Emu3's codec, which can't be trained; name a VQModel")
        self.module = self.objective = CodecObjective(self.codec.network, config)
        resolution = self.codec.resolution
        self.batches = ImageBatches(read_images(config.data), resolution, config.crop_scale, config.seed)
        self.order = SampleOrder(len(self.batches), config.batch, config.seed)
        self.held_out = (
            ImageBatches(read_images(config.held_out), resolution, None, config.seed)
            if config.held_out
            else None
        )

    def export(self, folder: Path) -> None:
        """Write a VQModel folder that `ImageCodec.load` opens."""
        with torch.no_grad():
            ImageCodec(self.objective.export()).save(folder)


class UnifiedTask(TrainingTask):
    """Trains a unified model for one of its two tasks on the codes of datasets. Encodes and decodes no
    image."""

    def __init__(self, config: TokenTraining, device: torch.device | None = None) -> None:
        world = config if isinstance(config, WorldTraining) else None
        triplets = read_triplets(config.data, world.select if world else None)
        self.config = config
        self.vlm = _initial_model(config, triplets, device)
        self.vlm.fit = fit_of(triplets.codec_id)  # so that the trained model sees pictures as its data
        if world and world.new_image_head:
            self.vlm.restart_image_head()
        self.lora = config.lora is not None
        if config.lora:
            from kinescribe.training.lora import with_adapters

            self.vlm.network = with_adapters(self.vlm.network, config.lora, config.init)
        self.module = TokenObjective(self.vlm.network)
        task = "world" if world else "dynamics"
        floor = world.floor if world else None
        prompt = config.prompt({}) if isinstance(config, DynamicsTraining) else DEFAULT
        self.batches = TripletBatches(triplets, self.vlm, task, floor, prompt)
        self.order = mixed_order(triplets.given_N, config, world.mix if world else None)
        self.held_out = (
            TripletBatches(read_triplets(config.held_out), self.vlm, task, floor, prompt)
            if config.held_out
            else None
        )

    def export(self, folder: Path) -> None:
        """Write a folder that `load_model` opens. With LoRA, it is merged; `adapter/` holds the adapter
        alone."""
        if self.lora:
            from kinescribe.training.lora import save_and_merge

            self.vlm.network = save_and_merge(self.vlm.network, folder / "adapter")
        self.vlm.save(folder)
        if isinstance(self.held_out, TripletBatches) and isinstance(self.config, DynamicsTraining):
            write_usual_likelihoods(folder, self.vlm, self.held_out, self.config)


def _initial_model(config: TokenTraining, triplets: PackedTriplets, device: torch.device | None) -> TokenVLM:
    if config.init:
        return TokenVLM.load(model_folder(config.init), device=device)
    assert config.model is not None
    new = config.model
    tokenizer = new_tokenizer(triplets.actions.dictionary.to_pylist(), new.vocabulary)
    return new_token_vlm(ImageCodec.load(Path(new.codec)), tokenizer, new.hidden, new.layers, new.heads)


def make_task(config: TrainConfig, device: torch.device | None = None) -> TrainingTask:
    """The task of a configuration. New weights are drawn from its seed, those of `init` loaded to
    `device`."""
    torch.manual_seed(config.seed)
    if isinstance(config, CodecTraining):
        return CodecTask(config)
    assert isinstance(config, TokenTraining)
    family = family_named(config.init) if config.init else None
    if isinstance(config, DynamicsTraining) and family is CHAT:
        from kinescribe.training.chat import ChatTask

        return ChatTask(config, device)
    if isinstance(config, WorldTraining) and family is EDIT:
        from kinescribe.training.edit import EditTask

        return EditTask(config, device)
    return UnifiedTask(config, device)
