"""What `check --frames` found: rows that are right, rows that differ, rows that could not be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kinescribe.schemas.rendering import Table, counted, text


class Incomparable(StrEnum):
    """Why the frames of a row could not be compared; else it is a `RejectCode`, as for a missing video."""

    NO_TIME = "no_time"  # its frames are still images, not of a video
    CHANGED = "changed"  # the video has another size than when it was labelled
    DECORD_FAILS = "decord_fails"  # decord doesn't open the video, or stops before the frame
    EDIT_LIST = "edit_list"  # decord ignores the video's edit list
    MIRRORED = "mirrored"  # decord doesn't mirror
    OTHER_STREAM = "other_stream"  # decord reads a still picture beside the video
    CROPPED = "cropped"  # decord ignores the container's crop
    NARROW = "narrow"  # decord's frames of narrow videos are wrong
    CLOCK_JUMPS = "clock_jumps"  # the video's clock restarts or jumps, which decord doesn't follow
    NO_KEY_FRAME = (
        "no_key_frame"  # the video begins between key frames, and decord's times are of lost frames
    )
    NO_TIMESTAMPS = (
        "no_timestamps"  # the container has no timestamps, and a constant rate doesn't give the frame's time
    )


@dataclass(frozen=True, slots=True)
class DifferingFrame:
    """A stored frame that is not the video's at its time. `frame` is source or target, `seen` what it is."""

    triplet_id: str
    video: str
    frame: str
    time_s: float
    seen: str


@dataclass(frozen=True, slots=True)
class FrameCheck:
    """Rows drawn at random, whose frames a second decoder read anew from the videos.

    `rows` is `right` + `differ` + all of `not_comparable`, which has the number of rows by reason. Only
    videos in the folders `read_below` were read; `not_read` is the folder of the others, None if there are
    none.
    """

    rows: int
    right: int
    differ: int
    not_comparable: Mapping[str, int]
    differing: Sequence[DifferingFrame]
    read_below: Sequence[str]
    not_read: str | None

    def problems(self) -> list[str]:
        """What is wrong, and the remedy: rows that differ, or no video that may be read."""
        found: list[str] = []
        if self.differ:
            found.append(
                f"the frames of {self.differ} of {counted(self.rows, 'row')} are not those of their videos; "
                "label these videos again, or find out whether they changed"
            )
        if self.not_read and not self.right + self.differ:
            found.append(
                f"no frame was compared: the videos are in {self.not_read}, not in "
                f"{' or '.join(self.read_below)}; if you trust the dataset to read there, add --root "
                f"{self.not_read}"
            )
        return found

    def tables(self) -> Iterable[Table]:
        """The counts, the reasons, and the frames that differ."""
        counts = {
            "rows drawn": self.rows,
            "rows compared": self.right + self.differ,
            "right": self.right,
            "differ": self.differ,
            "not comparable": sum(self.not_comparable.values()),
        }
        folders = ("videos read below", ", ".join(self.read_below))
        yield Table([*((name, text(count)) for name, count in counts.items()), folders], "frames")
        yield Table(
            [(reason, text(count)) for reason, count in self.not_comparable.items()], "not comparable"
        )
        yield Table(
            [(one.triplet_id, one.frame, f"{one.time_s:.3f}", one.video, one.seen) for one in self.differing],
            "frames that differ",
            ("triplet", "frame", "time_s", "video", "seen"),
        )
