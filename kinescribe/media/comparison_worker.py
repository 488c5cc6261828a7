"""The program that runs in the sandbox of `check --frames`: compares stored frames with a video, by decord.

The first decoder says what is known of the video before: its limits, what is done to its frames, and when the
first one is. Knows nothing of stores, datasets or rows.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kinescribe.media.comparison_protocol import (
    ComparedFrame,
    ComparisonReply,
    ComparisonRequest,
    StoredFrame,
)
from kinescribe.media.decode import open_video
from kinescribe.media.decode_worker import reply_or_reject
from kinescribe.media.decoded_frame import DecodedFrame
from kinescribe.media.edit_list import has_several_edits
from kinescribe.media.frame_comparison import ALIKE_SHARE, TONE_MAPPED_SHARE, StoredPicture
from kinescribe.media.probe import check_file, check_header, check_pixels, opened_files
from kinescribe.media.sandbox import serve
from kinescribe.media.second_decoder import SecondVideo
from kinescribe.media.still_images import read_image
from kinescribe.schemas.config import DecodeLimits
from kinescribe.schemas.frame_check import Incomparable
from kinescribe.schemas.outcomes import Note, RejectCode, Rejected

NUM_NEIGHBOURS = 6
"""Frames on either side of a stored frame's time that it is compared with."""
MAX_IN_ORDER = 5_000
"""Frames that are read again from the beginning, if what was found by seeking differs."""
NARROWEST = 48
MAX_SIDE = 4096
EARLY_S = 0.001
MAX_STEP_S, MAX_STEPS, MIN_STEPS = 10.0, 10.0, 0.3
"""Between two frames of a clock that doesn't jump: seconds, and multiples of the mean."""
MOST_AWAY = 0.25
"""The share of a step by which a frame may be from its time, by a clock of a constant rate."""
PACKET_STARTS = (0, b"\x47"), (4, b"\x47"), (0, b"\x00\x00\x01\xba")
"""How transport and program streams begin, by the place in the file."""


@dataclass
class _Sought:
    """A stored frame, the frame that it should be, and its differences to that one and others, by index."""

    stored: StoredFrame
    picture: StoredPicture
    own: int
    differences: dict[int, float] = field(default_factory=dict[int, float])


def answer(request: bytes) -> bytes:
    """The encoded reply to an encoded request, which is a reject if the video can't be used."""
    decoded = ComparisonRequest.model_validate_json(request)
    return reply_or_reject(lambda: compared(decoded)).model_dump_json().encode()


def compared(request: ComparisonRequest) -> ComparisonReply:
    """Compare the frames with the video. Raises Rejected if the first decoder can't read the video."""
    first, opened = _first_frame(request)
    if why := _why_not(request.path, first):
        return ComparisonReply(not_comparable=why, opened=opened)
    share = TONE_MAPPED_SHARE if Note.TONE_MAPPED in first.notes else ALIKE_SHARE
    try:
        video = SecondVideo(request.path)
        opened += video.opened
        if why := _why_no_clock(request.path, video):
            return ComparisonReply(not_comparable=why, opened=opened)
        times_s = video.times_s - video.times_s[0] + first.time_s
        frames = _compare(request, video, times_s, share)
    except Rejected as error:
        if error.code is not RejectCode.UNREADABLE:
            raise
        return ComparisonReply(not_comparable=Incomparable.DECORD_FAILS, message=error.message, opened=opened)
    return ComparisonReply(pairs=tuple(zip(frames[::2], frames[1::2], strict=True)), opened=opened)


def _first_frame(request: ComparisonRequest) -> tuple[DecodedFrame, tuple[str, ...]]:
    """The video's first frame as the first decoder has it, and the files that it read."""
    times_s = [frame.time_s for pair in request.pairs for frame in pair]
    check_file(request.path)
    with open_video(request.path) as video:
        check_header(video.header, request.limits, min(times_s), max(times_s))
        first = next(video.frames(), None)
        if first is None:
            raise Rejected(RejectCode.UNREADABLE, "no frame can be decoded")
        check_pixels(first.picture.width, first.picture.height, request.limits)
        return first, opened_files()


def _why_not(path: Path, first: DecodedFrame) -> Incomparable | None:
    """Why decord is known to be wrong on this video, None if it isn't."""
    if Note.CROPPED in first.notes:
        return Incomparable.CROPPED
    if first.picture.width < NARROWEST:
        return Incomparable.NARROW
    if first.is_mirrored:
        return Incomparable.MIRRORED
    return Incomparable.EDIT_LIST if has_several_edits(path) else None


def _why_no_clock(path: Path, video: SecondVideo) -> Incomparable | None:
    """Why decord's times are not those of the video's frames, None if they are."""
    if not video.begins_with_key_frame:
        return Incomparable.NO_KEY_FRAME
    if video.times_s[0] < -EARLY_S:  # of frames that an edit list leaves out
        return Incomparable.EDIT_LIST
    steps_s = np.diff(video.times_s)
    if not len(steps_s):
        return Incomparable.OTHER_STREAM
    jumps = steps_s.max() > max(MAX_STEP_S, MAX_STEPS * steps_s.mean())
    repeats = _is_packet_stream(path) and steps_s.min() < MIN_STEPS * steps_s.mean()
    return Incomparable.CLOCK_JUMPS if jumps or repeats else None


def _is_packet_stream(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(8)
    return any(start[place:].startswith(magic) for place, magic in PACKET_STARTS)


def _compare(
    request: ComparisonRequest, video: SecondVideo, times_s: NDArray[np.float64], share: float
) -> list[ComparedFrame]:
    """The stored frames, compared; what differs from frames that were sought is compared again in order."""
    frames = [frame for pair in request.pairs for frame in pair]
    outside = None if video.has_timestamps else Incomparable.NO_TIMESTAMPS
    sought = [_sought(frame, times_s, request.limits, share, outside) for frame in frames]
    _read(video, sought, len(times_s))
    found = [_judged(one, video, times_s) for one in sought]
    last = max((one.own for one in sought if isinstance(one, _Sought)), default=0)
    if not all(one.is_right for one in found) and last < MAX_IN_ORDER and video.rewind():
        _read(video, sought, len(times_s))
        found = [_judged(one, video, times_s) for one in sought]
    return found


def _sought(
    frame: StoredFrame,
    times_s: NDArray[np.float64],
    limits: DecodeLimits,
    share: float,
    outside: Incomparable | None,
) -> _Sought | ComparedFrame:
    """The stored frame, to be read and compared, or what is wrong with it by itself.

    If its time has no frame, it differs, unless `outside` says why it cannot be compared.
    """
    try:
        image = read_image(io.BytesIO(frame.image), limits, MAX_SIDE)
    except Rejected as error:
        return ComparedFrame(seen=f"an image that cannot be read: {error.message:.300}")
    own = int(np.abs(times_s - frame.time_s).argmin())
    step_s = _step_s(times_s, own)
    if abs(times_s[own] - frame.time_s) > step_s:
        seen = f"a time without a frame; the nearest is at {times_s[own]:.3f} s"
        return ComparedFrame(seen=seen, not_comparable=outside)
    return _Sought(frame, StoredPicture.of(image, share), own)


def _step_s(times_s: NDArray[np.float64], index: int) -> float:
    """The longest time between this frame and those beside it."""
    around = times_s[max(0, index - 1) : index + 2]
    return float(np.diff(around).max()) if len(around) > 1 else 1.0


def _read(video: SecondVideo, sought: Sequence[_Sought | ComparedFrame], num_frames: int) -> None:
    """Note the differences of each stored frame to its own, those around it and the other of its pair."""
    wanted: defaultdict[int, list[_Sought]] = defaultdict(list)
    for place, one in enumerate(sought):
        if isinstance(one, _Sought):
            around = range(max(0, one.own - NUM_NEIGHBOURS), min(num_frames, one.own + NUM_NEIGHBOURS + 1))
            other = sought[place ^ 1]
            for index in {*around, *([other.own] if isinstance(other, _Sought) else [])}:
                wanted[index].append(one)
            one.differences.clear()
    for index, rgb in video.frames(sorted(wanted)):
        for one in wanted[index]:
            one.differences[index] = one.picture.difference(rgb)


def _judged(one: _Sought | ComparedFrame, video: SecondVideo, times_s: NDArray[np.float64]) -> ComparedFrame:
    if isinstance(one, ComparedFrame):
        return one
    others = dict(one.differences)
    own = others.pop(one.own, None)
    if own is None:
        return ComparedFrame(not_comparable=Incomparable.DECORD_FAILS)
    if one.picture.is_like(own, others.values()):
        return ComparedFrame(is_right=True)
    away_s = abs(times_s[one.own] - one.stored.time_s)
    if not video.has_timestamps and away_s > MOST_AWAY * _step_s(times_s, one.own):
        return ComparedFrame(not_comparable=Incomparable.NO_TIMESTAMPS)
    closest = min(one.differences, key=one.differences.__getitem__)
    if closest != one.own and one.picture.is_like(one.differences[closest]):
        return ComparedFrame(seen=f"the frame at {times_s[closest]:.3f} s")
    return ComparedFrame(seen="no frame near its time")


if __name__ == "__main__":
    cv2.setNumThreads(1)
    serve(answer, may_start_threads=True)
