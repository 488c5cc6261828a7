"""What `kinescribe models` lists: the models that come with the code, the families, and what each can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.families import FAMILIES, family_of
from models.identity import CODEC, EMBEDDED, identify_codec, model_config, model_folder, require_files

DYNAMICS, WORLD = ("describe", "score"), ("imagine", "score")
DOES = {"embedded": DYNAMICS, "embedded-world": WORLD}
"""What the models that come with the code were trained for; all others, whatever they are fine-tuned for."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model, or a family of them."""

    name: str
    where: str
    """The model's folder, or how a folder of the family is recognised."""
    family: str
    does: tuple[str, ...]
    train: tuple[str, ...]
    """How it can be fine-tuned."""
    codec: str | None = None
    grid: tuple[int, int] | None = None
    """(height, width) of an image in codes."""


def known_models(names: Sequence[str] = ()) -> list[KnownModel]:
    """The models called `names`; without any, those that come with the code, and the families.

    Raises ModelError where a model cannot be used.
    """
    return [_named(name) for name in names] or [*map(_named, EMBEDDED), *_families()]


def _named(name: str) -> KnownModel:
    folder = model_folder(name)
    require_files(folder)
    codec, family = identify_codec(folder / CODEC), family_of(model_config(folder)).name
    does = DOES.get(name, (*DYNAMICS, "imagine"))
    return KnownModel(name, str(folder), family, does, ("lora", "full"), codec.id, codec.grid)


def _families() -> list[KnownModel]:
    does = (*DYNAMICS, "imagine")
    return [KnownModel(f.name, f.known_by, f.name, does, ("lora", "full")) for f in FAMILIES]
