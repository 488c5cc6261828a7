"""Frame pairs from one video file: one pass of decoding, motion, key frames, stored images.

Called inside the sandbox only. Knows nothing of stores, datasets or what a clip is called.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from kinescribe.media.decode import DecodedFrame, Video, open_video
from kinescribe.media.decode_protocol import DecodeReply, DecodeRequest
from kinescribe.media.keyframes import Candidates
from kinescribe.media.motion import GREY_SIDE, Grey, GreyFrame, grey_size, measure, pair_motion
from kinescribe.media.probe import check_duration, check_file, check_header, check_pixels
from kinescribe.media.still_images import small_grey, stored
from kinescribe.schemas.clips import FramePair, KeyFrame
from kinescribe.schemas.config import DecodeLimits, KeyFrames, StoredImage
from kinescribe.schemas.outcomes import DropReason, RejectCode, Rejected

SAMPLES_PER_INTERVAL = 10
"""Motion is measured this often in `min_interval` frames, which places a key frame well enough."""
MAX_SAMPLE_GAP_S = 0.1
"""But no more rarely than this: flow cannot follow what moves too far."""
MAX_HELD_BYTES = 256 << 20
"""Decoded frames beyond this are turned into stored images at once, which are far smaller."""


@dataclass(slots=True)
class Candidate:
    """A frame that may become a key frame: as decoded, or as it is stored."""

    time_s: float
    shot: int
    frame: DecodedFrame | None
    image: bytes = b""
    grey: Grey | None = None

    @property
    def held_bytes(self) -> int:
        """Memory of the decoded frame, if it is still held."""
        return self.frame.size_bytes if self.frame else 0

    def store(self, image: StoredImage) -> None:
        """Encode the frame as the dataset stores it, and let go of it."""
        if self.frame is None:
            return
        rgb = self.frame.rgb(image.max_side)
        grey = small_grey(rgb)
        self.image, self.grey, self.frame = stored(rgb, image), grey, None


def duration(request: DecodeRequest) -> DecodeReply:
    """How long the file says it is. Raises Rejected."""
    check_file(request.path)
    with open_video(request.path) as video:
        return DecodeReply(duration_s=video.header.duration_s)


def frame_pairs(request: DecodeRequest) -> DecodeReply:
    """The key frames and pairs of a file or a window of it. Raises Rejected."""
    check_file(request.path)
    with open_video(request.path) as video:
        check_header(video.header, request.limits, request.start_s, request.end_s)
        max_gap_s = MAX_SAMPLE_GAP_S if _stride(request.keyframes.min_interval) > 1 else 0.0
        frames = within(video, request.limits, request.start_s, request.end_s, max_gap_s)
        chosen = key_frames(frames, request.keyframes, request.image)
    drops: Counter[DropReason] = Counter()
    pairs: list[FramePair] = []
    for (i, source), (j, target) in itertools.pairwise(enumerate(chosen)):
        pair = _pair(source, target, request.keyframes)
        if isinstance(pair, DropReason):
            drops[pair] += 1
        else:
            pairs.append(FramePair(i, j, pair))
    frames = tuple(KeyFrame(one.time_s, one.image) for one in chosen)
    return DecodeReply(frames=frames if pairs else (), pairs=tuple(pairs), pair_drops=dict(drops))


def key_frames(
    frames: Iterable[DecodedFrame],
    keyframes: KeyFrames,
    image: StoredImage,
    max_held_bytes: int = MAX_HELD_BYTES,
) -> list[Candidate]:
    """The key frames in time order, stored, holding no more than the frames still in question."""
    candidates = Candidates(keyframes)
    held: dict[int, Candidate] = {}
    shot = 0
    for measured in measure(_sampled(frames, keyframes.min_interval), keyframes.cut_threshold):
        index, frame = measured.sample.index, measured.sample.item
        shot += measured.is_cut
        candidates.add(index, measured.motion)
        held[index] = Candidate(frame.time_s, shot, frame)
        if len(held) % SAMPLES_PER_INTERVAL == 0:
            held = {one: held[one] for one in sorted(candidates.left(index + 1))}
            _relieve(held.values(), image, max_held_bytes)
    chosen = [held[one] for one in sorted(candidates.left(None))]
    for one in chosen:
        one.store(image)
    return chosen


def _stride(min_interval: int) -> int:
    return max(1, min_interval // SAMPLES_PER_INTERVAL)


def within(
    video: Video, limits: DecodeLimits, start_s: float | None, end_s: float | None, max_gap_s: float = 0.0
) -> Iterator[DecodedFrame]:
    """The window's frames; rejects what the header did not say, and what holds no two frames."""
    num_frames, first_s = 0, 0.0
    for frame in video.frames(start_s, end_s, max_gap_s):
        first_s = first_s if num_frames else frame.time_s
        num_frames += 1
        check_pixels(frame.picture.width, frame.picture.height, limits)
        check_duration(frame.time_s - first_s, limits)
        yield frame
    if video.num_decoded == 0 and not start_s:
        raise Rejected(RejectCode.UNREADABLE, "no frame can be decoded")
    if num_frames == 0 and video.num_decoded > 1 and not start_s:
        raise Rejected(RejectCode.UNREADABLE, "no frame has a timestamp; put the stream into a container")
    if num_frames < 2:
        raise Rejected(RejectCode.TOO_SHORT, "fewer than two frames; a pair needs two")


def _sampled(frames: Iterable[DecodedFrame], min_interval: int) -> Iterator[GreyFrame[DecodedFrame]]:
    """The frames on which motion is measured, with their small grey images of one size."""
    stride = _stride(min_interval)
    last: DecodedFrame | None = None
    size = (0, 0)
    for frame in frames:
        if last is None:
            size = grey_size(frame.picture.width, frame.picture.height, GREY_SIDE)
        elif frame.index - last.index < stride and frame.time_s - last.time_s < MAX_SAMPLE_GAP_S:
            continue
        yield GreyFrame(frame.index, frame.luma(*size), frame)
        last = frame


def _relieve(held: Iterable[Candidate], image: StoredImage, max_held_bytes: int) -> None:
    """Store the oldest candidates until the decoded ones fit into memory."""
    decoded = [one for one in held if one.frame]
    num_bytes = sum(one.held_bytes for one in decoded)
    for one in decoded:
        if num_bytes <= max_held_bytes:
            return
        num_bytes -= one.held_bytes
        one.store(image)


def _pair(source: Candidate, target: Candidate, keyframes: KeyFrames) -> float | DropReason:
    """The motion of a pair, or why it is dropped."""
    if source.shot != target.shot:
        return DropReason.SHOT_CUT
    assert source.grey is not None
    assert target.grey is not None
    # A stream may change its frames' size midway.
    grey = cv2.resize(target.grey, source.grey.shape[::-1], interpolation=cv2.INTER_AREA)
    motion = pair_motion(source.grey, np.asarray(grey, np.uint8))
    return motion if motion >= keyframes.min_motion else DropReason.STATIC
