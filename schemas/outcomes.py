"""The outcome of a clip or a pair: kept, dropped with a reason, or rejected with a code.

A *rejected* clip couldn't be used, because of a fault of the input, the machine or a model. A *dropped* one
could but shouldn't be. Every clip of a run has exactly one outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

FEWEST_CLIPS_TO_JUDGE = 20
MOST = 10**9
"""Triplets or dropped pairs of one clip; a stranger's outcome may claim any number."""
LATEST_S = 1e11


class RejectCode(StrEnum):
    """Why a clip could not be labelled."""

    UNREADABLE = "unreadable"  # not a video that a decoder can read
    NO_VIDEO = "no_video"  # a media file without a video stream
    TOO_SHORT = "too_short"  # fewer than two frames
    TOO_LARGE = "too_large"  # more pixels, frames or hours than the limits allow
    TIMEOUT = "timeout"  # the decoder exceeded its deadline
    CRASHED = "crashed"  # the decoder died on it, or three actors did
    OUT_OF_MEMORY = "out_of_memory"  # the decoder exceeded its memory limit
    MISSING = "missing"  # nothing at that URI
    UNREACHABLE = "unreachable"  # its store refused it, or never answered
    FORBIDDEN = "forbidden"  # reading it would leave the input
    NO_ACTION = "no_action"  # its given action has no words
    MODEL_FAILED = "model_failed"  # a model raised on a pair of this clip alone


class DropReason(StrEnum):
    """Why a pair, or a clip without any other pair, is left out of the dataset."""

    STATIC = "static"  # too little motion between the two frames
    SHOT_CUT = "shot_cut"  # the pair would span a cut or a gradual transition
    FEW_KEYFRAMES = "few_keyframes"  # fewer than two key frames to pair


class Note(StrEnum):
    """What was done to a clip's frames, or what of it is left out."""

    TONE_MAPPED = "tone_mapped"  # HDR is shown with the colours of BT.709
    DEINTERLACED = "deinterlaced"  # each frame is made of one of its two fields
    CROPPED = "cropped"  # its container says which part of the picture is shown
    CLOCK_JUMPS = "clock_jumps"  # its clock restarts or jumps, as where files were joined
    INCOMPLETE = "incomplete"  # a later part of it couldn't be decoded; the message says why


class Status(StrEnum):
    """How a clip ended."""

    KEPT = "kept"
    DROPPED = "dropped"
    REJECTED = "rejected"


class Rejected(Exception):
    """Raised when a clip turns out to be unusable; becomes its outcome."""

    def __init__(self, code: RejectCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[Rejected], tuple[RejectCode, str]]:
        return Rejected, (self.code, self.message)


@dataclass(frozen=True, slots=True)
class ClipOutcome:
    """The outcome of one clip, as the footer of its unit's object records it.

    `reason` is a `RejectCode` for rejected clips, a `DropReason` for dropped ones and None for kept ones.
    `pair_drops` counts the dropped pairs of the clip by reason, whatever its own status, and `notes` say what
    else there is to know of it.
    """

    clip_id: str
    status: Status
    num_triplets: int = 0
    reason: RejectCode | DropReason | None = None
    message: str = ""
    pair_drops: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        assert all(0 <= count <= MOST for count in (self.num_triplets, *self.pair_drops.values())), self
        assert (self.status is Status.KEPT) == (self.num_triplets > 0), self
        assert (self.status is Status.KEPT) == (self.reason is None), self
        assert (self.status is Status.REJECTED) == isinstance(self.reason, RejectCode), self


@dataclass(frozen=True, slots=True)
class Receipt:
    """Counts of a committed unit, or of several: clips by status, triplets, rejects by code."""

    kept: int = 0
    dropped: int = 0
    rejected: int = 0
    triplets: int = 0
    rejects: Counter[str] = field(default_factory=Counter[str])

    @property
    def clips(self) -> int:
        return self.kept + self.dropped + self.rejected

    def __add__(self, other: Receipt) -> Receipt:
        return Receipt(
            self.kept + other.kept,
            self.dropped + other.dropped,
            self.rejected + other.rejected,
            self.triplets + other.triplets,
            self.rejects + other.rejects,
        )


@dataclass(frozen=True, slots=True)
class StageTime:
    """When and where a stage of the pipeline worked on a unit."""

    stage: str
    """decode or label."""
    started: float
    """Seconds since 1970, by the worker's clock."""
    seconds: float
    worker: str
    """The machine's name and the process."""
    work_s: float
    """`seconds` without the time spent waiting for a core, times the worker's cores or GPUs."""

    def __post_init__(self) -> None:
        assert all(0 <= value <= LATEST_S for value in (self.started, self.seconds, self.work_s)), self


def receipt_of(outcomes: Sequence[ClipOutcome]) -> Receipt:
    """The counts of a unit's outcomes."""
    statuses = Counter(outcome.status for outcome in outcomes)
    return Receipt(
        statuses[Status.KEPT],
        statuses[Status.DROPPED],
        statuses[Status.REJECTED],
        sum(outcome.num_triplets for outcome in outcomes),
        Counter(str(outcome.reason) for outcome in outcomes if outcome.status is Status.REJECTED),
    )


def too_many_rejects(total: Receipt, max_reject_rate: float) -> str | None:
    """Why the run must end, or None. A share of very few clips says nothing."""
    if total.clips < FEWEST_CLIPS_TO_JUDGE or total.rejected <= max_reject_rate * total.clips:
        return None
    remedy = "mend the input, or raise max_reject_rate"
    if total.rejects[RejectCode.FORBIDDEN]:
        remedy += ", or allow other folders than the input's by --root"
    table = "\n".join(f"  {reason:<16}{count:>8}" for reason, count in total.rejects.most_common())
    return (
        f"{total.rejected} of {total.clips} clips were rejected, more than max_reject_rate "
        f"{max_reject_rate:g}:\n{table}\n{remedy}; labelled clips are kept, and the same command resumes"
    )
