"""The outputs of a world model as a folder: images and `outputs.json`, with AURORA's keys.

`evaluate aurora` writes such folders and the human study reads them. Outputs of another project only need the
JSON file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, FailFast, Field, FiniteFloat, TypeAdapter, ValidationError

from kinescribe.schemas.errors import InputError
from kinescribe.storage import objects
from kinescribe.storage.uri import leads_out_of_folder

OUTPUTS = "outputs.json"


class Output(BaseModel):
    """An image that a model made from a source and an action. Paths are relative to the folder."""

    id: str = Field(min_length=1)
    """Names the case. Outputs of different models for the same case have the same id."""
    instruction: str = Field(min_length=1)
    input: str = Field(min_length=1)
    output: str = Field(min_length=1)
    task: str = ""
    judge: FiniteFloat | None = None
    """A judge's score, if there is one."""


def write_outputs(folder: Path, outputs: Sequence[Output]) -> None:
    """Write the list beside its images. An earlier list is replaced."""
    (folder / OUTPUTS).write_bytes(TypeAdapter(list[Output]).dump_json(list(outputs), indent=2) + b"\n")


def read_outputs(folder: Path) -> dict[str, Output]:
    """The outputs of a folder by id. Raises InputError."""
    file = folder / OUTPUTS
    try:
        outputs = TypeAdapter(Annotated[list[Output], FailFast()]).validate_json(objects.read_list(str(file)))
    except OSError as error:
        raise InputError(
            f"{file} cannot be read: {error.strerror}; name a folder of a model's outputs"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"{file}: {where}: {first['msg']}; give a list of objects with id, instruction, input and output"
        ) from error
    for output in outputs:
        if leads_out := next(
            (path for path in (output.input, output.output) if _is_outside(folder, path)), None
        ):
            raise InputError(f"{file}: {leads_out!r} of {output.id!r} is outside the folder; copy it there")
    by_id = {output.id: output for output in outputs}
    if len(by_id) < len(outputs):
        raise InputError(f"{file} has two outputs with the same id; give each case its own")
    if not by_id:
        raise InputError(f"{file} is empty; name a folder of a model's outputs")
    return by_id


def _is_outside(folder: Path, path: str) -> bool:
    """Whether the image is outside the folder, also by a link: raters will see it."""
    if leads_out_of_folder(path) or "\0" in path:
        return True
    return not Path(os.path.realpath(folder / path)).is_relative_to(os.path.realpath(folder))
