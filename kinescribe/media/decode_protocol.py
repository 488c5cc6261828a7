"""The messages between an extractor and its decoding process, as JSON.

JSON, because unpickling a reply would let a decoder that a hostile file has taken over run code outside its
process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from kinescribe.schemas.clips import FramePair, KeyFrame
from kinescribe.schemas.config import DecodeLimits, KeyFrames, Quality, StoredImage
from kinescribe.schemas.outcomes import DropReason, Note, RejectCode


class DecodeRequest(BaseModel):
    """A file, or the window [start_s, end_s) of it, and a task.

    `pairs` extracts frame pairs, `duration` reads the header, `ends` takes the first and the last frame, and
    `stills` takes two still images, the second of which is `target`. Only `pairs` uses `keyframes`.
    """

    model_config = ConfigDict(frozen=True)

    task: Literal["pairs", "duration", "ends", "stills"]
    path: Path
    target: Path | None = None
    start_s: float | None = None
    end_s: float | None = None
    window_s: float | None = None
    """Of a file or window without an end, no more than this is decoded for `pairs`."""
    limits: DecodeLimits
    keyframes: KeyFrames = KeyFrames()
    image: StoredImage
    quality: Quality = ()
    """What is measured for `pairs`."""
    context_frames: int = 0
    """How many frames between those of a pair are taken, for `pairs`."""


class Reply(BaseModel):
    """What every reply has: the files that were read (`probe.opened_files`), or the reason for a reject."""

    model_config = ConfigDict(
        frozen=True, ser_json_bytes="base64", val_json_bytes="base64", allow_inf_nan=False
    )

    opened: tuple[str, ...] = ()
    reject: RejectCode | None = None
    message: str = ""


class DecodeReply(Reply):
    """Key frames, pairs and dropped pairs of a clip, or its duration."""

    frames: tuple[KeyFrame, ...] = ()
    pairs: tuple[FramePair, ...] = ()
    pair_drops: dict[DropReason, int] = {}
    duration_s: float | None = None
    notes: frozenset[Note] = frozenset()
    goes_on: bool = False
    """Whether frames follow after the window."""

    @model_validator(mode="after")
    def _pairs_are_of_frames(self) -> Self:
        if any(not 0 <= pair.source < pair.target < len(self.frames) for pair in self.pairs):
            raise ValueError("a pair must be two of the frames, in order")
        times = {(self.frames[pair.source].time_s, self.frames[pair.target].time_s) for pair in self.pairs}
        if len(times) < len(self.pairs):
            raise ValueError("two pairs have the same times, which make the id of a triplet")
        return self
