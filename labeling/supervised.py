"""A list of triplets with given actions: AURORA's JSON, or a table of narrated segments of videos.

A list that is wrong as a whole is refused here, before anything starts; a single wrong triplet (a missing
file, no words) becomes a reject when it is extracted. Does not look inside images and videos.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, FailFast, Field, TypeAdapter, ValidationError

from kinescribe.labeling.inputs import absolute_input, forbidden, outside, relative_uri, uri_in
from kinescribe.labeling.manifest import MANIFESTS, Manifest
from kinescribe.schemas.clips import Clip, GivenTriplet, stable_id
from kinescribe.schemas.errors import InputError
from kinescribe.storage import credentials, objects

AURORA = ".json"
SEGMENTS = ("uri", "action_class", "start_s", "end_s", "narration")
"""The columns of a table of segments; without times, the whole file is one action."""


class _Edit(BaseModel):
    """An item of AURORA's JSON; its other keys differ from subset to subset."""

    input: str = Field(min_length=1)
    output: str = Field(min_length=1)
    instruction: str | None = None
    task: str | None = None


def list_given(input: str) -> list[GivenTriplet]:
    """The triplets of an input in its order. Raises InputError if it is wrong as a whole."""
    input = absolute_input(input)
    read = _segments if _kind(input) in MANIFESTS else _edits
    try:
        triplets = list(read(input))
    except OSError as error:
        raise InputError(f"{input} cannot be read: {error}; check its name and your permissions") from error
    if not triplets:
        raise InputError(f"{input} contains no triplet; give a file with triplets")
    return triplets


def given_forbidden(input: str, uri: str, roots: Sequence[str] = ()) -> str | None:
    """Why a file that this input names must not be read, None if it may be.

    A table may name videos in stores, like a manifest; images must be in the folder of their JSON, or on this
    machine below one of `roots`.
    """
    root = _root(absolute_input(input))
    return outside(uri, root, roots) if _kind(input) == AURORA else forbidden(uri, root, roots)


def _kind(input: str) -> str:
    kind = PurePosixPath(input).suffix.lower()
    if kind not in (AURORA, *MANIFESTS):
        raise InputError(
            f"{input} is not a list of triplets: give AURORA's {AURORA}, or a table of segments "
            f"({', '.join(MANIFESTS)})"
        )
    return kind


def _root(input: str) -> str:
    return posixpath.dirname(input)


def _edits(input: str) -> Iterator[GivenTriplet]:
    root, seen = _root(input), Counter[Any]()
    try:
        edits = TypeAdapter(Annotated[list[_Edit], FailFast()]).validate_json(objects.read_list(input))
    except ValidationError as error:
        raise InputError(f"{input}{_explain(error)}") from error
    for number, edit in enumerate(edits, 1):
        uris = (uri_in(root, edit.input), uri_in(root, edit.output))
        if any(map(credentials.holds_credentials, uris)):
            raise InputError(f"{input}, item {number}: a path {credentials.NO_CREDENTIALS}")
        yield _given(root, uris, edit.instruction, seen, edit.task)


def _segments(input: str) -> Iterator[GivenTriplet]:
    root, seen = _root(input), Counter[Any]()
    with objects.local_copy(input) as path:
        rows = Manifest(input, path).rows(SEGMENTS, required=("uri", "narration"))
    for uri, action_class, start_s, end_s, narration in rows.iter_rows():
        yield _given(root, (uri_in(root, uri),), narration, seen, action_class, start_s, end_s)


def _given(
    root: str,
    uris: tuple[str, ...],
    words: str | None,
    seen: Counter[Any],
    action_class: str | None,
    start_s: float | None = None,
    end_s: float | None = None,
) -> GivenTriplet:
    action = " ".join((words or "").split())
    relative = (relative_uri(uri, root) for uri in uris)
    parts = (*relative, start_s, end_s, action_class, action)
    # The same item may be listed twice and stays two triplets.
    clip_id = stable_id(*parts, seen[parts])
    seen[parts] += 1
    return GivenTriplet(Clip(clip_id, uris[0], action_class, start_s, end_s), action, uris)


def _explain(error: ValidationError) -> str:
    """The place and the message of the first error in AURORA's JSON."""
    first = error.errors(include_url=False)[0]
    match first["loc"]:
        case (int(index), str(key)):
            return f", item {index + 1}: {key}: {first['msg']}"
        case (int(index),):
            return f", item {index + 1}: {first['msg']}; give an object with instruction, input and output"
        case _:
            return f": {first['msg']}; give a list of objects with instruction, input and output"
