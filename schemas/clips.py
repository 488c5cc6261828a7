"""Clips, work units and frame pairs: what flows from the manifest to the labeller."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import pyarrow as pa

from kinescribe.schemas.outcomes import ClipOutcome

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


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A chosen frame: its image as stored in the dataset (JPEG or PNG) and its presentation time.

    A still image has no time.
    """

    time_s: float | None
    image: bytes


@dataclass(frozen=True, slots=True)
class FramePair:
    """Indices into the clip's key frames, and the mean optical-flow magnitude from source to target.

    `motion` is measured directly between the two frames, in pixels of a frame scaled to 128 pixels
    on its longer side.
    """

    source: int
    target: int
    motion: float


@dataclass(frozen=True, slots=True)
class ExtractedClip:
    """A clip after decoding: key frames and pairs to label, or an outcome if there is nothing to label."""

    clip: Clip
    frames: tuple[KeyFrame, ...] = ()
    pairs: tuple[FramePair, ...] = ()
    pair_drops: dict[str, int] = field(default_factory=dict)
    outcome: ClipOutcome | None = None

    def __post_init__(self) -> None:
        assert (self.outcome is None) == bool(self.pairs), self.clip.clip_id
