"""Loads models by name, and places them on the hardware.

A name is `embedded`, `embedded-world`, a local folder, ORG/NAME@COMMIT of a hub, or MODEL@URL. The table in
`families.py` says which class loads it; that class is imported only then.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch

from kinescribe.models.checkpoint_files import (
    LOADED,
    capabilities,
    codec_folder,
    family_named,
    model_folder,
    weight_bytes,
)
from kinescribe.models.codec import ImageCodec
from kinescribe.models.families import ENDPOINT, OWN, ModelFamily, Role
from kinescribe.schemas.codes import Fit
from kinescribe.schemas.config import Attention, LabelConfig, Precision

if TYPE_CHECKING:
    from kinescribe.models.dynamics import DynamicsModel
    from kinescribe.models.token_vlm import TokenVLM
    from kinescribe.models.world import WorldModel


@overload
def load(
    name: str,
    role: Literal["describer", "dynamics"],
    precision: Precision = "auto",
    attention: Attention = "auto",
) -> DynamicsModel[Any]: ...
@overload
def load(
    name: str, role: Literal["world"], precision: Precision = "auto", attention: Attention = "auto"
) -> WorldModel: ...
@overload
def load(
    name: str, role: Literal["unified"], precision: Precision = "auto", attention: Attention = "auto"
) -> TokenVLM: ...
def load(name: str, role: Role, precision: Precision = "auto", attention: Attention = "auto") -> Any:
    """The model called `name`, on the GPU if there is one.

    A `describer` describes frame pairs, a `dynamics` model also scores given actions, a `world` model draws
    targets, and a `unified` model does all three. Raises ModelError if the model can't.
    """
    family = family_named(name)
    family.require(name, role)
    module, _, class_name = family.loader.partition(":")
    source = name if family is ENDPOINT else model_folder(name)
    device = _placement(name) if family.spreads else _device()
    model = getattr(import_module(module), class_name).load(
        source, _dtype(family, precision), device, attention
    )
    model.name, model.does = name, capabilities(name)
    return model


def load_model(name: str, precision: Precision = "auto", attention: Attention = "auto") -> TokenVLM:
    """The unified model called `name`, on the GPU if there is one. Raises ModelError."""
    return load(name, "unified", precision, attention)


def load_labeller(config: LabelConfig) -> tuple[DynamicsModel[Any], ImageCodec]:
    """The dynamics model and the codec of a labelling run. Raises ModelError."""
    codec = load_codec(codec_folder(config.dynamics, config.codec), config.image.fit)
    return load(config.dynamics, "describer", config.precision, config.attention), codec


def load_codec(folder: Path, fit: Fit | None = None) -> ImageCodec:
    """The codec in `folder`, on the GPU if there is one, with its own fit or another. Raises ModelError."""
    codec = ImageCodec.load(folder)
    codec.fit = fit or codec.fit
    codec.to(_device())
    return codec


def inference_dtype(precision: Precision, family: ModelFamily, gpu_multiplies_bf16: bool) -> torch.dtype:
    """The dtype of the weights. `auto` is bf16 for published models on a GPU that multiplies it.

    Our own models are small, and processors are no faster in bf16.
    """
    if precision == "auto":
        precision = "bf16" if gpu_multiplies_bf16 and family is not OWN else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _dtype(family: ModelFamily, precision: Precision) -> torch.dtype:
    multiplies = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return inference_dtype(precision, family, multiplies)


def fits_one_card(weight_bytes: int, cards: Sequence[int]) -> bool:
    """Whether the model fits on the first card, or there is no second one; `cards` are their memories."""
    return len(cards) < 2 or LOADED * weight_bytes <= cards[0]


def _placement(name: str) -> torch.device | str:
    """The `device_map` of `from_pretrained`: all cards that this process sees if one is too small."""
    cards = [torch.cuda.get_device_properties(card).total_memory for card in range(torch.cuda.device_count())]
    return _device() if fits_one_card(weight_bytes(name), cards) else "auto"


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
