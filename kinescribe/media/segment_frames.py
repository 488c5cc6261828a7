"""The two frames of a triplet whose action is given: a segment's first and last, or two still images.

Called inside the sandbox only. Knows nothing of actions, stores or datasets.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from kinescribe.media.decode import open_video
from kinescribe.media.decode_protocol import Job, Reply
from kinescribe.media.frame_pairs import within
from kinescribe.media.probe import check_file, check_header
from kinescribe.media.still_images import Rgb, motion_between, read_image, resized, stored
from kinescribe.schemas.clips import FramePair, KeyFrame
from kinescribe.schemas.config import StoredImage
from kinescribe.schemas.outcomes import DropReason, Rejected


def segment_ends(job: Job) -> Reply:
    """The first and the last frame of a file or of a window of it. Raises Rejected."""
    check_file(job.path)
    with open_video(job.path) as video:
        check_header(video.header, job.limits, job.start_s, job.end_s)
        frames = within(video, job.limits, job.start_s, job.end_s)
        first = next(frames)
        last = deque(frames, maxlen=1)[0]
        source, target = (frame.rgb(job.image.max_side) for frame in (first, last))
    return _reply(source, target, job.image, (first.time_s, last.time_s))


def still_ends(job: Job) -> Reply:
    """Two images, which have no time. Raises Rejected, saying which of the two it is about."""
    assert job.target is not None, job
    source, target = _image("input", job.path, job), _image("output", job.target, job)
    return _reply(source, target, job.image, (None, None))


def _image(name: str, path: Path, job: Job) -> Rgb:
    try:
        return read_image(path, job.limits, job.image.max_side)
    except Rejected as error:
        raise Rejected(error.code, f"{name}: {error.message}") from error


def _reply(source: Rgb, target: Rgb, image: StoredImage, times_s: tuple[float | None, float | None]) -> Reply:
    """The pair, dropped where its two images are the same.

    The target takes the source's size, whatever its own proportions: the codec looks at the middle of each
    image, and importance compares what is at the same place.
    """
    target = resized(target, source.shape[1], source.shape[0])
    images = (stored(source, image), stored(target, image))
    if images[0] == images[1]:
        return Reply(pair_drops={DropReason.STATIC: 1})
    frames = tuple(KeyFrame(*frame) for frame in zip(times_s, images, strict=True))
    return Reply(frames=frames, pairs=(FramePair(0, 1, motion_between(source, target)),))
