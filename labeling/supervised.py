"""A list of triplets with given actions: AURORA's JSON, or a table of narrated segments of videos.

A list that is wrong as a whole is refused here, before anything starts; a single wrong triplet (a missing
file, no words) becomes a reject when it is extracted. Does not look inside images and videos.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, FailFast, Field, TypeAdapter, ValidationError

from kinescribe.labeling.inputs import absolute_input, forbidden, outside, uri_in
from kinescribe.labeling.manifest import Manifest
from kinescribe.labeling.tables import TABLES, json_bytes, kind_of, local_table
from kinescribe.schemas.clips import Clip, GivenTriplet, stable_id
from kinescribe.schemas.errors import InputError
from kinescribe.storage import credentials, objects
from kinescribe.storage.uri import is_local, relative_uri

AURORA = ".json"
SEGMENTS = ("uri", "action_class", "start_s", "end_s", "narration")
"""The columns of a table of segments; without times, the whole file is one action."""


class _Edit(BaseModel):
    """An item of AURORA's JSON; its other keys differ from subset to subset."""

    input: str = Field(min_length=1)
    output: str = Field(min_length=1)
    instruction: str | None = None
    prompt: str | None = None
    action: str | None = None
    task: str | None = None

    @property
    def words(self) -> str | None:
        """The action, whose key differs from file to file."""
        return self.instruction or self.prompt or self.action


def list_given(input: str) -> list[GivenTriplet]:
    """The triplets of an input in its order. Raises InputError if it is wrong as a whole."""
    input = absolute_input(input)
    read = _edits if _is_aurora(input) else _segments
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
    return outside(uri, root, roots) if _is_aurora(input) else forbidden(uri, root, roots)


def _is_aurora(input: str) -> bool:
    """Whether the input is AURORA's JSON, and no table of segments. Raises InputError if it is neither."""
    kind = kind_of(input)
    if kind not in (AURORA, *TABLES):
        raise InputError(
            f"{input} is not a list of triplets: give AURORA's {AURORA}, or a table of segments "
            f"({', '.join(TABLES)})"
        )
    return kind == AURORA


def _root(input: str) -> str:
    return posixpath.dirname(input)


def _edits(input: str) -> Iterator[GivenTriplet]:
    root, seen = _root(input), Counter[Any]()
    try:
        with local_table(input) as path:
            edits = TypeAdapter(Annotated[list[_Edit], FailFast()]).validate_json(json_bytes(input, path))
    except ValidationError as error:
        raise InputError(f"{input}{_explain(error)}") from error
    base, prefix = _image_folder(root, edits)
    for number, edit in enumerate(edits, 1):
        names = (name.removeprefix(prefix) for name in (edit.input, edit.output))
        uris = tuple(uri_in(base, name) for name in names)
        if any(map(credentials.holds_credentials, uris)):
            raise InputError(f"{input}, item {number}: a path {credentials.NO_CREDENTIALS}")
        yield _given(base, uris, edit.words, seen, edit.task)


def _image_folder(root: str, edits: Sequence[_Edit]) -> tuple[str, str]:
    """The folder that an AURORA list's paths start from, and what to leave out at their beginning.

    As published, `data/ag/train.json` names `data/ag/images/…`, from the folder of the repository. The first
    image decides; by default paths start from the list's own folder `root`.
    """
    prefix = f"data/{posixpath.basename(root)}/"
    first = edits[0].input if edits else ""
    if not first.startswith("data/"):
        return root, ""
    choices = [(root, ""), (root, prefix)]
    if is_local(root):
        choices.append((posixpath.dirname(posixpath.dirname(root)), ""))
    for folder, left_out in choices:
        if objects.is_file(uri_in(folder, first.removeprefix(left_out))):
            return folder, left_out
    return root, prefix


def _segments(input: str) -> Iterator[GivenTriplet]:
    root, seen = _root(input), Counter[Any]()
    with local_table(input) as path:
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
