"""The two frames of a given triplet: a segment's first and last frame, or two still images.

Called only inside the sandbox. Knows nothing of actions, stores or datasets.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from kinescribe.media.decode import open_video
from kinescribe.media.decode_protocol import DecodeReply, DecodeRequest
from kinescribe.media.frame_pairs import frames_within
from kinescribe.media.probe import check_file, check_header, opened_files
from kinescribe.media.still_images import Rgb, motion_between, read_image, resized, stored
from kinescribe.schemas.clips import FramePair, KeyFrame
from kinescribe.schemas.config import StoredImage
from kinescribe.schemas.outcomes import DropReason, RejectCode, Rejected


def segment_frames(request: DecodeRequest) -> DecodeReply:
    """The first and the last frame of a file, or of a window of it. Raises Rejected."""
    check_file(request.path)
    with open_video(request.path) as video:
        check_header(video.header, request.limits, request.start_s, request.end_s)
        frames = frames_within(video, request.limits, request.start_s, request.end_s)
        first = next(frames)
        last = deque(frames, maxlen=1)[0]
        source, target = (frame.rgb(request.image.max_side) for frame in (first, last))
        opened = opened_files()
    reply = _reply(source, target, request.image, (first.time_s, last.time_s))
    return reply.model_copy(update={"opened": opened})


def still_frames(request: DecodeRequest) -> DecodeReply:
    """Two images, which have no time. Raises Rejected with a message that names the image."""
    assert request.target is not None, request
    source, target = _image("input", request.path, request), _image("output", request.target, request)
    reply = _reply(source[0], target[0], request.image, (None, None))
    return reply.model_copy(update={"opened": source[1] + target[1]})


def _image(name: str, path: Path, request: DecodeRequest) -> tuple[Rgb, tuple[str, ...]]:
    """The image, and the file that was read."""
    try:
        check_file(path)
        with path.open("rb") as file:
            return read_image(file, request.limits, request.image.max_side), opened_files()
    except OSError as error:
        raise Rejected(RejectCode.UNREADABLE, f"{name}: {error.strerror}") from error
    except Rejected as error:
        raise Rejected(error.code, f"{name}: {error.message}") from error


def _reply(
    source: Rgb, target: Rgb, image: StoredImage, times_s: tuple[float | None, float | None]
) -> DecodeReply:
    """The pair, which is dropped if its two images are the same.

    If the sizes differ, the target is resized to the source: the codec fits each image to its square, and
    importance compares the same places of both.
    """
    target = resized(target, source.shape[1], source.shape[0])
    images = (stored(source, image), stored(target, image))
    frames = tuple(KeyFrame(*frame) for frame in zip(times_s, images, strict=True))
    if images[0] == images[1]:
        return DecodeReply(frames=frames[:1], pair_drops={DropReason.STATIC: 1})
    return DecodeReply(frames=frames, pairs=(FramePair(0, 1, motion_between(source, target)),))
