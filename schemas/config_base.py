"""What all configurations share: frozen models that refuse unknown keys, and take paths as they are.

Knows no job.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kinescribe.schemas.validation import plain_errors

Positive = Annotated[int, Field(gt=0)]
AtLeastTwo = Annotated[int, Field(ge=2)]
Positives = Annotated[Sequence[Positive], Field(min_length=1)]
NotNegative = Annotated[int, Field(ge=0)]


def _as_text(value: Any) -> Any:
    """A path, or those in a list, as strings."""
    if isinstance(value, list | tuple):
        return [_as_text(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


class Config(BaseModel):
    """A frozen model that refuses unknown keys. A path may be a string or an `os.PathLike`.

    Raises ConfigError that names each wrong key, its value and what was expected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, /, **values: Any) -> None:
        with plain_errors(type(self)):
            super().__init__(**values)

    # Pydantic makes sections without it, so that their errors have the full key.
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]

    @model_validator(mode="before")
    @classmethod
    def _paths_as_text(cls, values: Any) -> Any:
        return {key: _as_text(value) for key, value in values.items()} if isinstance(values, dict) else values
