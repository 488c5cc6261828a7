"""Models by name, placed as the hardware asks.

`embedded`, `embedded-world`, a local folder, ORG/NAME@COMMIT of a hub, or MODEL@URL.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kinescribe.models.chat_vlm import ChatVLM
from kinescribe.models.checkpoint_files import LOADED, codec_folder, model_config, model_folder, weight_bytes
from kinescribe.models.codec import ImageCodec
from kinescribe.models.dynamics import DynamicsModel
from kinescribe.models.edit_diffusion import EditDiffusion
from kinescribe.models.endpoint import Endpoint, is_endpoint
from kinescribe.models.endpoint_vlm import EndpointVLM
from kinescribe.models.families import CHAT, EDIT, OWN, Family, family_of
from kinescribe.models.token_vlm import TokenVLM
from kinescribe.models.world import WorldModel
from kinescribe.schemas.config import Attention, LabelConfig, Precision


def load_model(name: str, precision: Precision = "auto", attention: Attention = "auto") -> TokenVLM:
    """The unified model called `name`: one that comes with the code, a folder, or a hub's.

    It is on the GPU where there is one. Raises ModelError.
    """
    folder = model_folder(name)
    return TokenVLM.load(folder, _dtype(folder, precision), _placement(name), attention)


def load_world(name: str, precision: Precision = "auto") -> WorldModel:
    """The model called `name`, of any kind that imagines targets. Raises ModelError."""
    folder = model_folder(name)
    if family_of(model_config(folder)) is not EDIT:
        return load_model(name, precision)
    return EditDiffusion.load(folder, _dtype(folder, precision), _device())


def load_dynamics(
    name: str, precision: Precision = "auto", attention: Attention = "auto"
) -> DynamicsModel[Any]:
    """The model called `name`, of any kind that describes pairs and scores actions. Raises ModelError."""
    folder = model_folder(name)
    if family_of(model_config(folder)) is not CHAT:
        return load_model(name, precision, attention)
    return ChatVLM.load(folder, _dtype(folder, precision), _placement(name), attention)


def load_describer(
    name: str, precision: Precision = "auto", attention: Attention = "auto"
) -> DynamicsModel[Any]:
    """The model called `name`, of any kind that describes pairs: MODEL@URL too. Raises ModelError."""
    if is_endpoint(name):
        return EndpointVLM(Endpoint.named(name))
    return load_dynamics(name, precision, attention)


def load_labeller(config: LabelConfig) -> tuple[DynamicsModel[Any], ImageCodec]:
    """What labels: the dynamics model, and the codec whose codes the rows hold. Raises ModelError."""
    codec = load_codec(codec_folder(config.dynamics, config.codec))
    return load_describer(config.dynamics, config.precision, config.attention), codec


def load_codec(folder: Path) -> ImageCodec:
    """The codec in `folder`. Raises ModelError."""
    codec = ImageCodec.load(folder)
    codec.network.to(_device())
    return codec


def inference_dtype(precision: Precision, family: Family, gpu_multiplies_bf16: bool) -> torch.dtype:
    """Of the weights. `auto` is bf16 for published models on a GPU that multiplies it.

    Models of our own are small, and processors are no faster in bf16.
    """
    if precision == "auto":
        precision = "bf16" if gpu_multiplies_bf16 and family is not OWN else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _dtype(folder: Path, precision: Precision) -> torch.dtype:
    multiplies = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return inference_dtype(precision, family_of(model_config(folder)), multiplies)


def fits_one_card(weight_bytes: int, cards: Sequence[int]) -> bool:
    """Whether there is no other card beside the first, or no use for it; `cards` are their memories."""
    return len(cards) < 2 or LOADED * weight_bytes <= cards[0]


def _placement(name: str) -> torch.device | str:
    """For `from_pretrained`: over all cards that this process sees, where one is too small."""
    cards = [torch.cuda.get_device_properties(card).total_memory for card in range(torch.cuda.device_count())]
    return _device() if fits_one_card(weight_bytes(name), cards) else "auto"


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
