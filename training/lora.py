"""Low-rank adapters of the networks of transformers: how they are added, and how they are exported.

Knows peft; nothing of data or of steps.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model
from torch.nn import Linear

from kinescribe.models.hub import hub_model
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.training import Lora

_IN_A_LAYER = re.compile(r"(model\.)?layers\.\d+\..+(?<!\.gate)(?<!\.router)")
"""Modules of a decoder's layers, without those that choose experts."""


def language_projections(network: Any) -> list[str]:
    """The names of the linear projections in the layers of the network's language model.

    Nothing of a vision encoder, of what resamples its output, or of a head: `all-linear` would include them.
    Raises ConfigError if there are none.
    """
    decoder = network.get_decoder()
    start = next(name for name, module in network.named_modules() if module is decoder)
    names = [
        f"{start}.{name}".removeprefix(".")
        for name, module in decoder.named_modules()
        if isinstance(module, Linear) and _IN_A_LAYER.fullmatch(name)
    ]
    if not names:
        kind = network.config.model_type
        raise ConfigError(f"lora: the layers of {kind} have no linear projections; leave lora out")
    return names


def with_adapters(network: Any, lora: Lora, init: str | None) -> Any:
    """The network with adapters. For a model of a hub their configuration names its commit."""
    adapters = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=language_projections(network),
    )
    adapted = get_peft_model(network, adapters)
    if pinned := hub_model(init or ""):
        adapters.base_model_name_or_path, adapters.revision = pinned
    return adapted


def save_and_merge(adapted: Any, folder: Path) -> Any:
    """Write the adapters to `folder`; returns the network with the adapters merged."""
    # Embeddings have no adapters; to find that out, peft would ask the hub for the model.
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return adapted.merge_and_unload()
