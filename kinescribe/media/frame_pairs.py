"""Extracts frame pairs from a video file in one pass: decoding, motion, key frames, stored images.

Called only inside the sandbox. Knows nothing of stores, datasets or clips.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from kinescribe.media.context_frames import context_times, nearest_images
from kinescribe.media.decode import Video, open_video
from kinescribe.media.decode_protocol import DecodeReply, DecodeRequest
from kinescribe.media.decoded_frame import DecodedFrame
from kinescribe.media.gradual_transitions import Transition, TransitionFinder
from kinescribe.media.keyframes import Candidates, Moment
from kinescribe.media.motion import GREY_SIDE, Grey, GreyFrame, grey_size, measure, pair_motion
from kinescribe.media.probe import check_duration, check_file, check_header, check_pixels, opened_files
from kinescribe.media.quality import change_hash, frame_quality
from kinescribe.media.still_images import small_grey, stored
from kinescribe.schemas.clips import NOT_MEASURED, FramePair, FrameQuality, KeyFrame
from kinescribe.schemas.config import DecodeLimits, KeyFrames, Quality, StoredImage
from kinescribe.schemas.outcomes import DropReason, Note, RejectCode, Rejected

SAMPLES_PER_INTERVAL = 10
"""Motion is measured this often in `min_interval` frames, which is often enough to place a key frame."""
MAX_SAMPLE_GAP_S = 0.1
"""The longest time between two measurements: optical flow can't follow what moves too far."""
MAX_HELD_BYTES = 256 << 20
"""Decoded frames beyond this are encoded at once as stored images, which are far smaller."""


@dataclass(slots=True)
class HeldFrame:
    """A frame that may become a key frame: as decoded, or as stored."""

    index: int
    time_s: float
    shot: int
    """The number of cuts before the frame."""
    decoded: DecodedFrame | None
    image: bytes = b""
    grey: Grey | None = None
    notes: frozenset[Note] = frozenset()
    quality: FrameQuality = NOT_MEASURED

    @property
    def held_bytes(self) -> int:
        """The memory of the decoded frame, 0 once it is encoded."""
        return self.decoded.size_bytes if self.decoded else 0

    def encode(self, image: StoredImage, quality: Quality = ()) -> None:
        """Encode the frame as the dataset stores it, measure its quality, and release the decoded one."""
        if self.decoded is None:
            return
        rgb = self.decoded.rgb(image.max_side)
        grey = small_grey(rgb)
        self.image, self.grey, self.notes = stored(rgb, image), grey, self.decoded.notes
        if quality:
            self.quality = frame_quality(rgb, grey, quality)
        self.decoded = None


def duration(request: DecodeRequest) -> DecodeReply:
    """The duration that the file states, or if it doesn't, that of its packets. Raises Rejected."""
    check_file(request.path)
    with open_video(request.path) as video:
        duration_s = video.header.duration_s or video.count_duration()
        return DecodeReply(duration_s=duration_s, opened=opened_files())


def frame_pairs(request: DecodeRequest) -> DecodeReply:
    """The key frames and pairs of a file, or of a window of it. Raises Rejected.

    With `window_s`, of a file or window without an end only so much is decoded; the reply says if it goes on.
    """
    check_file(request.path)
    with open_video(request.path) as video:
        check_header(video.header, request.limits, request.start_s, request.end_s)
        max_gap_s = MAX_SAMPLE_GAP_S if _stride(request.keyframes.min_interval) > 1 else 0.0
        end_s = request.end_s
        if is_window := end_s is None and request.window_s is not None:
            end_s = (request.start_s or 0.0) + (request.window_s or 0.0)
        frames = frames_within(video, request.limits, request.start_s, end_s, max_gap_s, is_window)
        chosen, transitions = key_frames(frames, request.keyframes, request.image, quality=request.quality)
        goes_on = is_window and video.goes_on
        pairs, drops = _pairs(chosen, transitions, request)
        notes = frozenset[Note]().union(*(frame.notes for frame in chosen))
        if video.num_clock_jumps:
            notes |= {Note.CLOCK_JUMPS}
        opened = opened_files()
    if request.context_frames and pairs:
        with open_video(request.path) as video:
            again = frames_within(video, request.limits, request.start_s, end_s, max_gap_s, is_window)
            pairs = _with_context(pairs, chosen, again, request)
            opened = tuple(dict.fromkeys((*opened, *opened_files())))
    frames = tuple(KeyFrame(frame.time_s, frame.image, frame.quality) for frame in chosen)
    kept = frames if pairs else ()
    return DecodeReply(
        frames=kept,
        pairs=tuple(pairs),
        pair_drops=dict(drops),
        opened=opened,
        notes=notes,
        goes_on=goes_on,
    )


def _pairs(
    chosen: Sequence[HeldFrame], transitions: Sequence[Transition], request: DecodeRequest
) -> tuple[list[FramePair], Counter[DropReason]]:
    """The pairs of adjacent key frames, and how many are none, by reason."""
    drops: Counter[DropReason] = Counter()
    pairs: list[FramePair] = []
    for (i, source), (j, target) in itertools.pairwise(enumerate(chosen)):
        pair = _pair(source, target, transitions, request.keyframes)
        if isinstance(pair, DropReason):
            drops[pair] += 1
        else:
            changes = _change_hash(source, target) if "hashes" in request.quality else None
            pairs.append(FramePair(i, j, pair, changes))
    return pairs, drops


def _with_context(
    pairs: Sequence[FramePair],
    chosen: Sequence[HeldFrame],
    frames: Iterable[DecodedFrame],
    request: DecodeRequest,
) -> list[FramePair]:
    """The pairs with the images of frames between their two."""
    num = request.context_frames
    ends = [(chosen[pair.source].time_s, chosen[pair.target].time_s) for pair in pairs]
    times = [time_s for source_s, target_s in ends for time_s in context_times(source_s, target_s, num)]
    images = nearest_images(frames, times, request.image)
    if len(images) < len(times):
        raise Rejected(RejectCode.UNREADABLE, "the file changed while it was read")
    return [
        replace(pair, context=tuple(images[place * num : (place + 1) * num]))
        for place, pair in enumerate(pairs)
    ]


def key_frames(
    frames: Iterable[DecodedFrame],
    keyframes: KeyFrames,
    image: StoredImage,
    max_held_bytes: int = MAX_HELD_BYTES,
    quality: Quality = (),
) -> tuple[list[HeldFrame], list[Transition]]:
    """The key frames, encoded, in time order, and the gradual transitions.

    Holds only frames that may still be chosen, and all small grey ones.
    """
    candidates, finder = Candidates(keyframes), TransitionFinder()
    held: dict[int, HeldFrame] = {}
    shot = 0
    for measured in measure(_sampled(frames, keyframes.min_interval), keyframes.cut_threshold):
        index, frame = measured.sample.index, measured.sample.item
        shot += measured.is_cut
        if measured.is_flash:
            continue
        candidates.add(Moment(index, frame.time_s, measured.motion))
        finder.add(index, frame.time_s, measured.sample.grey)
        held[index] = HeldFrame(index, frame.time_s, shot, frame)
        if len(held) % SAMPLES_PER_INTERVAL == 0:
            held = {kept: held[kept] for kept in sorted(candidates.left())}
            _encode_oldest(held.values(), image, max_held_bytes, quality)
    chosen = [held[index] for index in candidates.chosen()]
    for frame in chosen:
        frame.encode(image, quality)
    interruptions = finder.interruptions([frame.index for frame in chosen])
    return chosen, [*finder.transitions(), *interruptions]


def _stride(min_interval: int) -> int:
    return max(1, min_interval // SAMPLES_PER_INTERVAL)


def frames_within(
    video: Video,
    limits: DecodeLimits,
    start_s: float | None,
    end_s: float | None,
    max_gap_s: float = 0.0,
    may_go_on: bool = False,
) -> Iterator[DecodedFrame]:
    """The window's frames. Raises Rejected if they pass the limits, or if there are fewer than two.

    With `may_go_on` there may be fewer if frames follow after the window.
    """
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
    if num_frames < 2 and not (may_go_on and video.goes_on):
        raise Rejected(RejectCode.TOO_SHORT, "fewer than two frames; a pair needs two")


def _sampled(frames: Iterable[DecodedFrame], min_interval: int) -> Iterator[GreyFrame[DecodedFrame]]:
    """The frames on which motion is measured, with small grey images, all of the same size."""
    stride = _stride(min_interval)
    last: DecodedFrame | None = None
    size = (0, 0)
    for frame in frames:
        if last is None:
            size = grey_size(frame.width, frame.height, GREY_SIDE)
        elif frame.index - last.index < stride and frame.time_s - last.time_s < MAX_SAMPLE_GAP_S:
            continue
        yield GreyFrame(frame.index, frame.time_s, frame.luma(*size), frame)
        last = frame


def _encode_oldest(
    held: Iterable[HeldFrame], image: StoredImage, max_held_bytes: int, quality: Quality = ()
) -> None:
    """Encode the oldest frames until the decoded ones fit into memory."""
    decoded = [frame for frame in held if frame.decoded]
    num_bytes = sum(frame.held_bytes for frame in decoded)
    for frame in decoded:
        if num_bytes <= max_held_bytes:
            return
        num_bytes -= frame.held_bytes
        frame.encode(image, quality)


def in_one_shot(source: HeldFrame, target: HeldFrame, transitions: Sequence[Transition]) -> bool:
    """Whether neither a cut nor any part of a gradual transition lies between the frames."""
    apart = (target.index <= last or first <= source.index for last, first in transitions)
    return source.shot == target.shot and all(apart)


def _pair(
    source: HeldFrame, target: HeldFrame, transitions: Sequence[Transition], keyframes: KeyFrames
) -> float | DropReason:
    """The motion of a pair, or the reason to drop it."""
    if not in_one_shot(source, target, transitions):
        return DropReason.SHOT_CUT
    assert source.grey is not None
    assert target.grey is not None
    # The size of the frames may change within a stream.
    grey = cv2.resize(target.grey, source.grey.shape[::-1], interpolation=cv2.INTER_AREA)
    motion = pair_motion(source.grey, np.asarray(grey, np.uint8))
    return motion if motion >= keyframes.min_motion else DropReason.STATIC


def _change_hash(source: HeldFrame, target: HeldFrame) -> bytes:
    assert source.grey is not None
    assert target.grey is not None
    return change_hash(source.grey, target.grey)
