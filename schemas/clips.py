"""Clips, work units and frame pairs: what flows from the manifest to the labeller."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Annotated

import pyarrow as pa
from pydantic import Field

from kinescribe.schemas.outcomes import ClipOutcome, Note

ID = r"^[0-9a-f]{32}$"
"""The form of a `stable_id`, as the ids of runs, units and triplets have. A clip's id may be the user's."""


def stable_id(*parts: object) -> str:
    """A 128-bit hexadecimal hash of the parts, the same on every machine and in every version."""
    data = b""
    for part in parts:
        text = b"" if part is None else str(part).encode()
        data += len(text).to_bytes(8, "little") + text
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Clip:
    """One video, or the window [start_s, end_s) of one, in seconds of presentation time.

    `size_bytes` comes from the listing of the store, None if that does not give it.
    """

    clip_id: str
    uri: str
    action_class: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class GivenTriplet:
    """A clip whose action is known, and the files to read it from.

    One file is a video, of which `clip` is a segment; two files are the source and the target image.
    """

    clip: Clip
    action: str
    uris: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """A fixed, ordered list of clips that is decoded, labelled and committed as one.

    `columns` are the carried columns of the user's manifest, one row per clip; None if there are none.
    """

    unit_id: str
    clips: tuple[Clip, ...]
    columns: pa.Table | None = None


def carried_by_clip(unit: WorkUnit, names: Collection[str]) -> dict[str, dict[str, object]]:
    """Those of a unit's carried columns that are named, of each clip by its id; empty if there are none."""
    columns = [] if unit.columns is None else [name for name in unit.columns.column_names if name in names]
    if unit.columns is None or not columns:
        return {}
    rows = unit.columns.select(columns).to_pylist()
    return {clip.clip_id: row for clip, row in zip(unit.clips, rows, strict=True)}


HASH_BYTES = 16
Share = Annotated[float, Field(ge=0, le=1)]
Hash = Annotated[bytes, Field(min_length=HASH_BYTES, max_length=HASH_BYTES)]
"""A perceptual hash (`media.quality`)."""


@dataclass(frozen=True, slots=True)
class FrameQuality:
    """Measures of a key frame, None for each that was not asked for.

    `sharpness` is the variance of the Laplacian in grey levels squared; the others but `hash` are from 0 to
    1, and shares of the picture.
    """

    sharpness: Annotated[float, Field(ge=0)] | None = None
    brightness: Share | None = None
    clipping: Share | None = None
    bars: Share | None = None
    text_share: Share | None = None
    hash: Hash | None = None


NOT_MEASURED = FrameQuality()


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A chosen frame: its image as stored in the dataset (JPEG or PNG) and its presentation time.

    A still image has no time.
    """

    time_s: float | None
    image: bytes
    quality: FrameQuality = NOT_MEASURED


@dataclass(frozen=True, slots=True)
class FramePair:
    """Indices into the clip's key frames, and the mean optical-flow magnitude from source to target.

    `motion` is measured directly between the two frames, in pixels of a frame scaled to 128 pixels
    on its longer side. `change_hash` is that of what changes. `context` are images of frames between the two.
    """

    source: int
    target: int
    motion: float
    change_hash: Hash | None = None
    context: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ExtractedClip:
    """A clip after decoding: key frames and pairs to label, or an outcome if there is nothing to label."""

    clip: Clip
    frames: tuple[KeyFrame, ...] = ()
    pairs: tuple[FramePair, ...] = ()
    pair_drops: dict[str, int] = field(default_factory=dict)
    outcome: ClipOutcome | None = None
    notes: tuple[Note, ...] = ()
    message: str = ""

    def __post_init__(self) -> None:
        assert (self.outcome is None) == bool(self.pairs), self.clip.clip_id
