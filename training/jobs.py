"""What is trained: the module, its data and how the result is written, for each kind of training.

Knows models and datasets; nothing of steps, ranks or checkpoints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from diffusers.models.autoencoders.vq_model import VQModel
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from torch import nn

from kinescribe.models.chat_vlm import ChatVLM
from kinescribe.models.checkpoint_files import model_config, model_folder
from kinescribe.models.codec import ImageCodec
from kinescribe.models.edit_diffusion import EditDiffusion
from kinescribe.models.families import CHAT, EDIT, family_of
from kinescribe.models.hub import hub_model
from kinescribe.models.initialization import new_codec, new_token_vlm, new_tokenizer
from kinescribe.models.token_vlm import TokenVLM
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.training import (
    CodecTraining,
    DynamicsTraining,
    Lora,
    Mix,
    TokenTraining,
    TrainConfig,
    WorldTraining,
)
from kinescribe.training.batches import (
    Batches,
    MixedOrder,
    Order,
    PackedTriplets,
    SampleOrder,
    TripletBatches,
    given,
    read_triplets,
)
from kinescribe.training.chat import ConversationBatches, read_conversations
from kinescribe.training.codec_objective import CodecObjective
from kinescribe.training.edit import DROPOUT, Adapters, EditBatches, EditObjective, read_edits
from kinescribe.training.images import ImageBatches, read_images
from kinescribe.training.objective import TokenObjective

LORA_TARGETS = r"^(?!.*(vision|visual|vqmodel)).*\.layers\.\d+\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj$"
"""The language model's projections alone; `all-linear` leaks into vision parts."""


class Job(Protocol):
    """What is trained: a module, its data, and how the result is written."""

    @property
    def module(self) -> nn.Module:
        """Maps a batch to sums over its weighted parts, `loss` among them."""
        ...

    batches: Batches
    held_out: Batches | None
    order: Order

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
        if not isinstance(self.codec.network, VQModel):
            raise ConfigError(
                f"init: {config.init} is Emu3's codec, which is used as it is; name a VQModel's"
            )
        self.module = CodecObjective(self.codec.network, config)
        resolution = self.codec.resolution
        self.batches: Batches = ImageBatches(
            read_images(config.data), resolution, config.crop_scale, config.seed
        )
        self.order: Order = SampleOrder(len(self.batches), config.batch, config.seed)
        self.held_out: Batches | None = (
            ImageBatches(read_images(config.held_out), resolution, None, config.seed)
            if config.held_out
            else None
        )

    def export(self, folder: Path) -> None:
        """A VQModel folder that `ImageCodec.load` opens."""
        with torch.no_grad():
            ImageCodec(self.module.export()).save(folder)


class TokenJob:
    """A unified model on one of its two tasks, on the codes of datasets; no image is encoded or decoded."""

    def __init__(self, config: TokenTraining, device: torch.device | None = None) -> None:
        world = config if isinstance(config, WorldTraining) else None
        triplets = read_triplets(config.data, world.select if world else None)
        self.vlm = _start(config, triplets, device)
        if world and world.new_image_head:
            self.vlm.restart_image_head()
        self.lora = config.lora is not None
        if config.lora:
            self.vlm.network = _with_adapters(self.vlm.network, config.lora, config.init)
        self.module = TokenObjective(self.vlm.network)
        task = "world" if world else "dynamics"
        floor = world.floor if world else None
        self.batches: Batches = TripletBatches(triplets, self.vlm, task, floor)
        self.order = _order(triplets.given_N, config, world.mix if world else None)
        self.held_out: Batches | None = (
            TripletBatches(read_triplets(config.held_out), self.vlm, task, floor) if config.held_out else None
        )

    def export(self, folder: Path) -> None:
        """See `_export`."""
        _export(self.vlm, self.lora, folder)


class ChatJob:
    """A chat model as a dynamics model, on the images and actions of datasets."""

    def __init__(self, config: DynamicsTraining, folder: Path, device: torch.device | None = None) -> None:
        self.vlm = ChatVLM.load(folder, device=device)
        self.lora = config.lora is not None
        if config.lora:
            self.vlm.network = _with_adapters(self.vlm.network, config.lora, config.init)
        self.module = TokenObjective(self.vlm.network)
        self.batches: Batches = ConversationBatches(read_conversations(config.data), self.vlm)
        self.order: Order = SampleOrder(len(self.batches), config.batch, config.seed)
        self.held_out: Batches | None = (
            ConversationBatches(read_conversations(config.held_out), self.vlm) if config.held_out else None
        )

    def export(self, folder: Path) -> None:
        """See `_export`."""
        _export(self.vlm, self.lora, folder)


class EditJob:
    """An image editor as a world model, on the images, actions and importance of datasets."""

    def __init__(self, config: WorldTraining, folder: Path, device: torch.device | None = None) -> None:
        if config.new_image_head:
            raise ConfigError(f"new_image_head: {config.init} has no head of image codes; leave it out")
        self.model = EditDiffusion.load(folder, device=device)
        self.module = EditObjective(self.model)
        self.adapters = Adapters(self.model, config.lora) if config.lora else None
        rows = read_edits(config.data, config.select)
        self.batches: Batches = EditBatches(rows, self.model, config.floor, DROPOUT, config.seed)
        self.order = _order(given(rows), config, config.mix)
        self.held_out: Batches | None = (
            EditBatches(read_edits(config.held_out), self.model, config.floor, 0.0, config.seed)
            if config.held_out
            else None
        )

    def export(self, folder: Path) -> None:
        """Write a pipeline that diffusers opens; with LoRA, merged, and the adapter alone in `adapter/`."""
        if self.adapters:
            self.adapters.save(folder / "adapter")
            self.adapters.merge()
        self.model.save(folder)


def _export(vlm: TokenVLM | ChatVLM, lora: bool, folder: Path) -> None:
    """Write a folder that `models.registry` opens; with LoRA, merged, and the adapter alone in `adapter/`."""
    if lora:
        adapted: Any = vlm.network
        # Embeddings have no adapters; to find that out, the library would ask the hub for the model.
        adapted.save_pretrained(folder / "adapter", save_embedding_layers=False)
        vlm.network = adapted.merge_and_unload()
    vlm.save(folder)


def _order(given_N: NDArray[np.bool_], config: TokenTraining, mix: Mix | None) -> Order:
    if mix is None:
        return SampleOrder(len(given_N), config.batch, config.seed)
    shares = {"supervised": mix.supervised, "labelled": mix.labelled}
    groups = np.flatnonzero(given_N), np.flatnonzero(~given_N)
    for (name, share), group in zip(shares.items(), groups, strict=True):
        if share and not len(group):
            raise ConfigError(
                f"mix.{name} is {share}, but the data has no {name} triplets; add some, or set 0"
            )
    return MixedOrder(groups, mix.supervised, config.batch, config.seed)


def _start(config: TokenTraining, triplets: PackedTriplets, device: torch.device | None) -> TokenVLM:
    if config.init:
        return TokenVLM.load(model_folder(config.init), device=device)
    assert config.model is not None
    new = config.model
    tokenizer = new_tokenizer(triplets.actions.dictionary.to_pylist(), new.vocabulary)
    return new_token_vlm(ImageCodec.load(Path(new.codec)), tokenizer, new.hidden, new.layers, new.heads)


def _with_adapters(network: Any, lora: Lora, init: str | None) -> Any:
    """The network with adapters; of a hub's model their configuration says which commit they are for."""
    adapters = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=LORA_TARGETS
    )
    adapted = get_peft_model(network, adapters)
    if pinned := hub_model(init or ""):
        adapters.base_model_name_or_path, adapters.revision = pinned
    return adapted


def make_job(config: TrainConfig, device: torch.device | None = None) -> Job:
    """The job of a configuration; new weights are drawn from its seed, those of `init` loaded to `device`."""
    torch.manual_seed(config.seed)
    if isinstance(config, CodecTraining):
        return CodecJob(config)
    assert isinstance(config, TokenTraining)
    if config.init:
        folder = model_folder(config.init)
        family = family_of(model_config(folder))
        if isinstance(config, DynamicsTraining) and family is CHAT:
            return ChatJob(config, folder, device)
        if isinstance(config, WorldTraining) and family is EDIT:
            return EditJob(config, folder, device)
    return TokenJob(config, device)


def assert_full(folder: Path) -> None:
    """Every tensor of every safetensors file has elements: ZeRO-3 has saved empty ones."""
    files = list(folder.rglob("*.safetensors"))
    assert files, folder
    for path in files:
        with safe_open(path, "pt") as tensors:
            empty = [name for name in tensors.keys() if 0 in tensors.get_slice(name).get_shape()]  # noqa: SIM118
        assert not empty, f"{path} has empty tensors: {empty}"
