"""The list that `kinescribe models` shows: the models that come with the package, and every family.

A model that is named is opened as it is for use, but without its weights, and a server is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, ClassVar

from kinescribe.models.checkpoint_files import EMBEDDED, capabilities, family_named, identify, model_folder
from kinescribe.models.endpoint import Endpoint
from kinescribe.models.families import ASKING, CHAT, EDIT, ENDPOINT, FAMILIES, Capability, ModelFamily
from kinescribe.schemas.errors import ConfigError, ModelError
from kinescribe.schemas.prompts import QUESTION, Example, Prompt

SHOWN = (Example((b"", b""), QUESTION, QUESTION),)
TRIED = {
    "question": (Prompt(), 2),
    "system": (Prompt(system=QUESTION), 2),
    "examples": (Prompt(examples=SHOWN), 2),
    "context_frames": (Prompt(), 3),
}
"""A prompt and a number of images for each key of `Asking`."""
FEW_TOKENS = 8


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model, or a family of models."""

    name: str
    where: str
    """The model's folder or URL; for a family, how it is recognised."""
    family: str
    does: tuple[Capability, ...]
    train: tuple[str, ...]
    """The ways in which it can be fine-tuned."""
    codec: str | None = None
    grid: tuple[int, int] | None = None
    """(height, width) of an image in codes."""
    prompts: tuple[str, ...] = ()
    """The keys of `Asking` that it takes. Of a family: those that most models take."""
    images: str | None = None
    """What prepares its images, if it is a chat model: `pil`, or torchvision with its version."""

    COLUMNS: ClassVar = ("model", "can", "train", "prompts", "codes", "where")

    @property
    def row(self) -> tuple[str, ...]:
        """The model as a line of a table with `COLUMNS`."""
        codes = "×".join(map(str, self.grid or ()))
        texts = map(", ".join, (self.does, self.train, self.prompts))
        return self.name, *texts, codes, self.where


def known_models(names: Sequence[str] = ()) -> list[KnownModel]:
    """The models called `names`; without names, the models that come with the package and all families.

    Raises ModelError if a model that is named can't be used.
    """
    if names:
        return [_tried(name) for name in names]
    return [*map(_model, EMBEDDED), *map(_family, (*FAMILIES, ENDPOINT))]


def _tried(name: str) -> KnownModel:
    """A model that was opened, or answered."""
    if family_named(name) is ENDPOINT:
        return _answering(name)
    known = _model(name)
    return replace(known, **_found(name, family_named(name)))


def _answering(name: str) -> KnownModel:
    """A server that answers a question about two blank images."""
    from kinescribe.models.endpoint_vlm import EndpointVLM

    EndpointVLM.load(name).require_answer(Prompt(QUESTION), FEW_TOKENS)
    where, family = Endpoint.named(name).url, ENDPOINT
    return KnownModel(name, where, family.name, family.does, family.train, prompts=family.asks)


def _model(name: str) -> KnownModel:
    """A model as its files describe it."""
    family, codec = family_named(name), identify(name).codec
    return KnownModel(
        name,
        str(model_folder(name)),
        family.name,
        capabilities(name),
        family.train,
        codec.id if codec else None,
        codec.grid if codec else None,
        family.asks,
    )


def _found(name: str, family: ModelFamily) -> dict[str, Any]:
    """What opening the model shows. Raises ModelError if that fails."""
    import torch

    module, _, class_name = family.loader.partition(":")
    folder = model_folder(name)
    model = getattr(import_module(module), class_name).load(folder, device=torch.device("meta"))
    found: dict[str, Any] = {} if family is EDIT else {"train": _ways_to_train(model.network, family)}
    if family is CHAT:
        from kinescribe.models.chat_processor import image_backend

        found |= {"prompts": _prompts(model), "images": image_backend(folder)}
    return found


def _ways_to_train(network: Any, family: ModelFamily) -> tuple[str, ...]:
    from kinescribe.models.projections import language_projections

    try:
        language_projections(network)
    except ConfigError:
        return tuple(way for way in family.train if way != "lora")
    return family.train


def _prompts(model: Any) -> tuple[str, ...]:
    """Those that its chat template shows."""
    taken: list[str] = []
    for key in ASKING:
        prompt, num_images = TRIED[key]
        with suppress(ModelError):
            model.prompts.text(prompt, num_images)
            taken.append(key)
    return tuple(taken)


def _family(family: ModelFamily) -> KnownModel:
    return KnownModel(
        family.name, family.recognised_by, family.name, family.does, family.train, prompts=family.asks
    )
