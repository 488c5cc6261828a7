"""Which modules of published architectures get adapters; the networks have shapes and no values."""

import re
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText

from kinescribe.models.projections import language_projections
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.training import Lora
from kinescribe.training.lora import with_adapters
from tests.tiny_vlm import tiny_vlm

ATTENTION = {f"self_attn.{name}_proj" for name in "qkvo"}
LLAMA = ATTENTION | {f"mlp.{name}_proj" for name in ("gate", "up", "down")}
LAYERS = 2
PROJECTIONS = {  # Llama 4's other experts are one tensor each, and no modules
    "idefics2": LLAMA,
    "smolvlm": LLAMA,
    "llava": LLAMA,
    "llava_next": LLAMA,
    "qwen2_5_vl": LLAMA,
    "qwen3_vl": LLAMA,
    "gemma3": LLAMA,
    "internvl": LLAMA,
    "mistral3": LLAMA,
    "paligemma": LLAMA,
    "gemma4": LLAMA | {"per_layer_input_gate", "per_layer_projection"},
    "glm4v": ATTENTION | {"mlp.gate_up_proj", "mlp.down_proj"},
    "llama4": ATTENTION | {f"feed_forward.shared_expert.{name}_proj" for name in ("gate", "up", "down")},
}


def network(kind: str) -> Any:
    config = CONFIG_MAPPING[kind]()
    text = config.get_text_config()
    text.num_hidden_layers = LAYERS
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:LAYERS]
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def kinds(names: list[str]) -> set[str]:
    return {re.split(r"\blayers\.\d+\.", name)[1] for name in names}


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_each_projection_of_the_language_model_gets_an_adapter_and_nothing_else(kind: str):
    adapted = with_adapters(network(kind), Lora(), None)
    names = [
        name.removesuffix(".lora_A.default").removeprefix("base_model.model.")
        for name, _ in adapted.named_modules()
        if name.endswith(".lora_A.default")
    ]
    assert kinds(names) == PROJECTIONS[kind]
    assert not [name for name in names if re.search("vision|visual|connector|resampler|projector", name)]
    assert len(names) == LAYERS * len(PROJECTIONS[kind])


def test_layers_of_convolutions_get_adapters_too():
    config = CONFIG_MAPPING["lfm2_vl"]()
    config.text_config.layer_types = ["conv", "full_attention"]
    config.text_config.num_hidden_layers = 2
    with torch.device("meta"):
        names = language_projections(AutoModelForImageTextToText.from_config(config))
    mixing = {"conv.in_proj", "conv.out_proj", *(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out"))}
    assert kinds(names) == mixing | {f"feed_forward.w{number}" for number in (1, 2, 3)}


def test_the_layers_of_our_own_models_get_adapters():
    own = tiny_vlm().network
    names = language_projections(own)
    assert len(names) == own.config.num_hidden_layers * len(kinds(names))
    assert kinds(names) >= {"self_attn.q_proj", "self_attn.k_proj"}


def test_layers_without_projections_are_an_error():
    config = CONFIG_MAPPING["gpt2"](n_layer=1, n_embd=8, n_head=2, vocab_size=16)
    with pytest.raises(ConfigError, match="the layers of gpt2 have no linear projections"):
        language_projections(AutoModelForCausalLM.from_config(config))
