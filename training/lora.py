"""Low-rank adapters of the networks of transformers: how they are added, and how they are exported.

Knows peft; nothing of data or of steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model

from kinescribe.models.hub import hub_model
from kinescribe.models.projections import language_projections
from kinescribe.schemas.training import Lora


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
