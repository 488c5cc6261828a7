"""What became of a clip or a pair: kept, dropped with a reason, or rejected with a code.

A *reject* is a clip that could not be used (a fault of the file, the machine or a model); a *drop*
is one that could but should not be. Every clip of a run's manifest ends in exactly one outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class RejectCode(StrEnum):
    """Why a clip could not be labelled."""

    UNREADABLE = "unreadable"  # the bytes are no video that a decoder can follow
    NO_VIDEO = "no_video"  # a media file without a video stream
    TOO_SHORT = "too_short"  # fewer than two frames
    TOO_LARGE = "too_large"  # more pixels, frames or hours than the limits allow
    TIMEOUT = "timeout"  # the decoder passed its deadline
    CRASHED = "crashed"  # the decoder (or an actor, three times) died on it
    OUT_OF_MEMORY = "out_of_memory"  # the decoder passed its memory limit
    MISSING = "missing"  # nothing at that URI
    FORBIDDEN = "forbidden"  # reading it would leave the input
    MODEL_FAILED = "model_failed"  # a model raised on this clip's pair alone


class DropReason(StrEnum):
    """Why a pair, or a clip all of whose pairs were dropped, is left out of the dataset."""

    STATIC = "static"  # too little motion between the two frames
    SHOT_CUT = "shot_cut"  # the pair would span a cut
    FEW_KEYFRAMES = "few_keyframes"  # fewer than two key frames to pair


class Status(StrEnum):
    """How a clip ended."""

    KEPT = "kept"
    DROPPED = "dropped"
    REJECTED = "rejected"


class Rejected(Exception):
    """Raised where a clip turns out to be unusable; caught at the unit's edge only."""

    def __init__(self, code: RejectCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[Rejected], tuple[RejectCode, str]]:
        return Rejected, (self.code, self.message)


@dataclass(frozen=True, slots=True)
class ClipOutcome:
    """The end of one clip, as the footer of its unit's object records it.

    `reason` is a `RejectCode` for rejected clips, a `DropReason` for dropped ones and None for kept
    ones. `pair_drops` counts the clip's pairs that were dropped, by reason, whatever its own status.
    """

    clip_id: str
    status: Status
    num_triplets: int = 0
    reason: RejectCode | DropReason | None = None
    message: str = ""
    pair_drops: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert (self.status is Status.KEPT) == (self.num_triplets > 0), self
        assert (self.status is Status.KEPT) == (self.reason is None), self
