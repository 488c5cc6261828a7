"""The first and the last frame of a few clips, decoded for a page: a dataset keeps none of dropped clips.

A dataset may come from strangers and name any file as a video, so only videos below some folders are read.
Nothing of a video is decoded in this process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from kinescribe.labeling.extract import SegmentExtractor
from kinescribe.labeling.frame_check import not_below
from kinescribe.schemas.clips import Clip
from kinescribe.schemas.config import DecodeLimits, StoredImage
from kinescribe.schemas.outcomes import Rejected
from kinescribe.storage.uri import absolute

DEADLINE_S = 30.0
"""For one clip."""


def first_and_last_frames(clips: Iterable[Clip], roots: Sequence[str] = ()) -> dict[str, tuple[bytes, bytes]]:
    """The frames as JPEG, by the clip's id; a clip that can't be decoded, or must not be read, has none.

    Only videos below `roots`, or else the working folder, are read.
    """
    named = [absolute(root) for root in roots] or [str(Path.cwd())]
    limits = DecodeLimits(deadline_s=DEADLINE_S)
    found: dict[str, tuple[bytes, bytes]] = {}
    with closing(SegmentExtractor(limits, StoredImage(), partial(not_below, roots=named))) as extractor:
        for clip in clips:
            with suppress(Rejected):
                frames = extractor.ends(clip)
                found[clip.clip_id] = frames[0].image, frames[-1].image
    return found
