"""The families of models: how each is recognised, and how a unified one wraps the codes of an image.

A unified family is a row here; all else is `TokenVLM`'s, whatever the family. Loads no network and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kinescribe.models.checkpoint_files import EDIT_PIPELINE, is_chat, is_edit
from kinescribe.models.tokens import Wrapping


@dataclass(frozen=True, slots=True)
class Family:
    """What sets the models of one family apart."""

    name: str
    known_by: str
    """What of its folder says that a model is of this family."""
    wrapping: Wrapping = field(default_factory=Wrapping)


OWN = Family("kinescribe", "first_code_id in config.json")
"""A causal language model of transformers that `kinescribe train` made."""
CHAMELEON = Family(
    "chameleon",
    "model_type chameleon: Chameleon and Anole",
    # As in transformers' processor: begin and end of an image, and what separates a prompt from its answer.
    Wrapping("<racm3:break>", "<eoss>", action="<reserved08706>"),
)
EMU3 = Family(
    "emu3",
    "model_type emu3",
    Wrapping(
        "<|image start|>{height}*{width}<|image token|>",
        "<|extra_201|><|image end|>",
        row="<|extra_200|>",
        action=" ASSISTANT:",
    ),
)
LIQUID = Family(
    "liquid",
    "any other causal language model, with <boi> and <eoi> in its tokenizer",
    Wrapping("<boi>", "<eoi>", action="<start_of_turn>model\n"),
)
UNIFIED = (OWN, CHAMELEON, EMU3, LIQUID)
CHAT = Family("chat", "vision_config in config.json: Qwen-VL, SmolVLM, LLaVA and others")
"""Models that see pixels and write text (`ChatVLM`)."""
EDIT = Family("instruct-pix2pix", f"{EDIT_PIPELINE} in model_index.json")
"""Models that edit an image as words say (`EditDiffusion`)."""


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of the model whose config.json this is."""
    by_type = {"chameleon": CHAMELEON, "emu3": EMU3}
    if is_chat(config):
        return CHAT
    if is_edit(config):
        return EDIT
    if "first_code_id" in config:
        return OWN
    return by_type.get(config.get("model_type", ""), LIQUID)
