"""The list that `kinescribe models` shows: the models that come with the package, and every family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from kinescribe.models.checkpoint_files import EMBEDDED, capabilities, family_named, identify, model_folder
from kinescribe.models.endpoint import Endpoint
from kinescribe.models.families import ENDPOINT, FAMILIES, Capability, ModelFamily


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

    COLUMNS: ClassVar = ("model", "can", "train", "codes", "where")

    @property
    def row(self) -> tuple[str, ...]:
        """The model as a line of a table with `COLUMNS`."""
        codes = "×".join(map(str, self.grid or ()))
        return self.name, ", ".join(self.does), ", ".join(self.train), codes, self.where


def known_models(names: Sequence[str] = ()) -> list[KnownModel]:
    """The models called `names`; without names, the models that come with the package and all families.

    Raises ModelError if a model can't be used.
    """
    if names:
        return [_model(name) for name in names]
    return [*map(_model, EMBEDDED), *map(_family, (*FAMILIES, ENDPOINT))]


def _model(name: str) -> KnownModel:
    family = family_named(name)
    if family is ENDPOINT:  # its identity is asked for when it labels
        where, codec = Endpoint.named(name).url, None
    else:
        where, codec = str(model_folder(name)), identify(name).codec
    return KnownModel(
        name,
        where,
        family.name,
        capabilities(name),
        family.train,
        codec.id if codec else None,
        codec.grid if codec else None,
    )


def _family(family: ModelFamily) -> KnownModel:
    return KnownModel(family.name, family.recognised_by, family.name, family.does, family.train)
