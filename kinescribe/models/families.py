"""The table of model families: how a family is recognised, which class loads it, and what it can do.

A new family is a new row. Imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kinescribe.models.tokens import Wrapping
from kinescribe.schemas.annotation import Asking
from kinescribe.schemas.codes import Fit
from kinescribe.schemas.errors import ModelError

Capability = Literal["describe", "score", "imagine", "judge"]
Role = Literal["describer", "dynamics", "world", "unified"]

CODEC = "codec"
CODEC_WEIGHTS = "diffusion_pytorch_model.safetensors"
WEIGHTS = "model.safetensors"
SHARDS = f"{WEIGHTS}.index.json"
PIPELINE = "model_index.json"
EDIT_PIPELINE = "StableDiffusionInstructPix2PixPipeline"
EDIT_PARTS = {"unet": CODEC_WEIGHTS, "vae": CODEC_WEIGHTS, "text_encoder": WEIGHTS}
"""The networks of an editing pipeline, and the names of their weight files."""

CHAT_FILES = {"config.json": "config.json", WEIGHTS: SHARDS, "tokenizer.json": "tokenizer.json"}
"""The files that a chat model must have. The second name is accepted instead of the first."""
FILES = {
    **CHAT_FILES,
    f"{CODEC}/config.json": f"{CODEC}/config.json",
    f"{CODEC}/{CODEC_WEIGHTS}": f"{CODEC}/{WEIGHTS}",
}
"""The files that a unified model must have."""
EDIT_FILES = {
    PIPELINE: PIPELINE,
    "scheduler/scheduler_config.json": "scheduler/scheduler_config.json",
    "tokenizer/vocab.json": "tokenizer/tokenizer.json",
    **{f"{part}/config.json": f"{part}/config.json" for part in EDIT_PARTS},
    **{f"{part}/{weights}": f"{part}/{weights}.index.json" for part, weights in EDIT_PARTS.items()},
}
"""The files that an editing pipeline must have."""
ASKING = tuple(Asking.model_fields)
"""The keys of `Asking`."""

ROLES: Mapping[Role, tuple[Capability, ...]] = {
    "describer": ("describe",),
    "dynamics": ("describe", "score"),
    "world": ("imagine",),
    "unified": ("describe", "score", "imagine"),
}
"""What a model must be able to do in each role."""
_ROLE_NAMES: Mapping[Role, str] = {
    "describer": "a dynamics model",
    "dynamics": "a dynamics model from a folder or a hub",
    "world": "a world model",
    "unified": "a unified model",
}
_CAPABILITY_NAMES: Mapping[Capability, str] = {
    "describe": "describe frame pairs",
    "score": "score a given action",
    "imagine": "draw images",
    "judge": "judge images",
}


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """One row of the table."""

    name: str
    recognised_by: str
    """The feature of a model's folder or name that puts it in this family, in words."""
    matches: Callable[[Mapping[str, Any]], bool]
    """Whether a config.json (or model_index.json) belongs to this family."""
    noun: str
    """What an error message calls a model of this family."""
    loader: str
    """`module:class`; imported only when a model of the family is loaded."""
    does: tuple[Capability, ...]
    train: tuple[str, ...] = ("lora", "full")
    """The ways in which it can be fine-tuned."""
    files: Mapping[str, str] | None = None
    """The files that a folder must have; the second name is accepted instead of the first."""
    weights: Mapping[str, str] | None = None
    """The subfolders with weights, and the names of the weight files."""
    auto_class: str = "AutoModelForImageTextToText"
    """The class of transformers that opens the network."""
    spreads: bool = True
    """Whether a large model can be spread over several GPUs."""
    wrapping: Wrapping = field(default_factory=Wrapping)
    """How a unified family marks images and actions in its sequences."""
    asks: tuple[str, ...] = ()
    """The keys of `Asking` that its models take."""
    fit: Fit = "crop"
    """How the family's published code makes images square for the codec."""

    @property
    def has_codec(self) -> bool:
        """Whether its models see codes of their own codec; the others see images."""
        return self.files is FILES

    def require(self, name: str, role: Role) -> None:
        """Raise ModelError if the model called `name`, of this family, can't take the role."""
        missing = [_CAPABILITY_NAMES[needed] for needed in ROLES[role] if needed not in self.does]
        if missing:
            raise ModelError(
                f"{name} is {self.noun}, which can't {' or '.join(missing)}; name {_ROLE_NAMES[role]}"
            )

    def require_trainable(self, name: str, task: Literal["dynamics", "world"]) -> None:
        """Raise ModelError if `kinescribe train` can't fine-tune the model called `name` for `task`."""
        if not self.train:
            raise ModelError(f"init: {name} is {self.noun}, which can't be trained; name a model's folder")
        self.require(f"init: {name}", task)


def _unified(
    name: str,
    recognised_by: str,
    matches: Callable[[Mapping[str, Any]], bool],
    wrapping: Wrapping,
    auto_class: str = "AutoModelForImageTextToText",
    fit: Fit = "crop",
) -> ModelFamily:
    return ModelFamily(
        name,
        recognised_by,
        matches,
        noun="a unified model",
        loader="kinescribe.models.token_vlm:TokenVLM",
        does=ROLES["unified"],
        files=FILES,
        weights={"": WEIGHTS},
        auto_class=auto_class,
        fit=fit,
        wrapping=wrapping,
        asks=("question",) if wrapping.asks else (),
    )


OWN = _unified(
    "kinescribe",
    "first_code_id in config.json",
    lambda config: "first_code_id" in config,
    Wrapping(),
    "AutoModelForCausalLM",
)
"""A causal language model of transformers that `kinescribe train` made."""
CHAMELEON = _unified(
    "chameleon",
    "model_type chameleon: Chameleon and Anole",
    lambda config: config.get("model_type") == "chameleon",
    # As in transformers' processor: the marks around an image, and the one between a prompt and its answer.
    Wrapping(
        "<racm3:break>",
        "<eoss>",
        dynamics="{source}{target}{question}<reserved08706>",
        world="{source}{action}<reserved08706>",
    ),
)
EMU3 = _unified(
    "emu3",
    "model_type emu3",
    lambda config: config.get("model_type") == "emu3",
    Wrapping(
        "<|image start|>{height}*{width}<|image token|>",
        "<|extra_201|><|image end|>",
        row="<|extra_200|>",
        # Emu3-Chat's template; Emu3-Gen has none.
        dynamics="You are a helpful assistant. USER: {source}{target}{question} ASSISTANT:",
        world="{source}{action}",
    ),
)
LIQUID = _unified(
    "liquid",
    "any other causal language model, with <boi> and <eoi> in its tokenizer",
    lambda config: True,
    # As the code of Liquid, and that of arXiv:2602.06130 on it, asks and draws.
    Wrapping(
        "<boi>",
        "<eoi>",
        dynamics="<start_of_turn>user\n{source}{target}\n{question}<end_of_turn>\n<start_of_turn>model\n",
        world="{source}\n{action}",
    ),
    "AutoModelForCausalLM",
    fit="pad",  # as in inference_i2t.py of github.com/FoundationVision/Liquid
)
CHAT = ModelFamily(
    "chat",
    "vision_config in config.json: Qwen-VL, SmolVLM, LLaVA and others",
    lambda config: "vision_config" in config,
    noun="a chat model",
    loader="kinescribe.models.chat_vlm:ChatVLM",
    does=("describe", "score"),
    files=CHAT_FILES,
    weights={"": WEIGHTS},
    asks=ASKING,
)
EDIT = ModelFamily(
    "instruct-pix2pix",
    f"{EDIT_PIPELINE} in {PIPELINE}",
    lambda config: config.get("_class_name") == EDIT_PIPELINE,
    noun="an image editor",
    loader="kinescribe.models.edit_diffusion:EditDiffusion",
    does=("imagine",),
    files=EDIT_FILES,
    weights=EDIT_PARTS,
    spreads=False,
)
ENDPOINT = ModelFamily(
    "endpoint",
    "MODEL@URL: an OpenAI-compatible server such as vLLM",
    lambda config: False,
    noun="a server",
    loader="kinescribe.models.endpoint_vlm:EndpointVLM",
    does=("describe", "judge"),
    train=(),
    asks=ASKING,
)
"""Recognised by its name (`is_endpoint`), since it has no folder."""

FAMILIES = (OWN, CHAMELEON, EMU3, CHAT, EDIT, LIQUID)
"""In the order in which they are tried: LIQUID takes every folder that no other family recognises."""


def family_of(config: Mapping[str, Any]) -> ModelFamily:
    """The family of the model with this config.json."""
    return next(family for family in FAMILIES if family.matches(config))
