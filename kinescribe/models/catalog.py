"""What `kinescribe models` lists: the models that come with the code, the families, and what each can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from kinescribe.models.checkpoint_files import EMBEDDED, identify, model_config, model_folder
from kinescribe.models.endpoint import Endpoint, is_endpoint
from kinescribe.models.families import CHAT, EDIT, UNIFIED, family_of

DYNAMICS, WORLD, ENDPOINT = ("describe", "score"), ("imagine", "score"), ("describe", "judge")
DOES = {"embedded": DYNAMICS, "embedded-world": WORLD, CHAT.name: DYNAMICS, EDIT.name: ("imagine",)}
"""What the models that come with the code were trained for, and what families can do that are not unified."""
ALL = (*DYNAMICS, "imagine")


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

    COLUMNS: ClassVar = ("model", "can", "train", "codes", "where")

    @property
    def row(self) -> tuple[str, ...]:
        """The model as a line of a table with `COLUMNS`."""
        codes = "×".join(map(str, self.grid or ()))
        return self.name, ", ".join(self.does), ", ".join(self.train), codes, self.where


def known_models(names: Sequence[str] = ()) -> list[KnownModel]:
    """The models called `names`; without any, those that come with the code, and the families.

    Raises ModelError where a model cannot be used.
    """
    return [_named(name) for name in names] or [*map(_named, EMBEDDED), *_families()]


def _named(name: str) -> KnownModel:
    codec = identify(name).codec
    if is_endpoint(name):
        return KnownModel(name, Endpoint.named(name).url, "endpoint", ENDPOINT, ())
    folder = model_folder(name)
    family = family_of(model_config(folder))
    does = DOES.get(name) or DOES.get(family.name, ALL)
    known = KnownModel(name, str(folder), family.name, does, ("lora", "full"))
    return replace(known, codec=codec.id, grid=codec.grid) if codec else known


def _families() -> list[KnownModel]:
    return [
        *(
            KnownModel(f.name, f.known_by, f.name, DOES.get(f.name, ALL), ("lora", "full"))
            for f in (*UNIFIED, CHAT, EDIT)
        ),
        KnownModel("MODEL@URL", "an OpenAI-compatible server, e.g. vLLM", "endpoint", ENDPOINT, ()),
    ]
