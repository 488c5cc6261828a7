"""The frames between those of a pair, for models that see more than the two.

Decodes a file a second time, since which frames are needed is known only when its key frames are. Called only
inside the sandbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kinescribe.media.decoded_frame import DecodedFrame
from kinescribe.media.still_images import stored
from kinescribe.schemas.config import StoredImage


def context_times(source_s: float, target_s: float, num: int) -> list[float]:
    """`num` times that divide the time between two frames evenly."""
    step = (target_s - source_s) / (num + 1)
    return [source_s + step * (place + 1) for place in range(num)]


def nearest_images(frames: Iterable[DecodedFrame], times: Sequence[float], image: StoredImage) -> list[bytes]:
    """The image of the frame nearest to each time, the earlier of two; `times` ascend.

    Reads no more frames than it needs.
    """
    found: list[bytes] = []
    last: DecodedFrame | None = None
    for frame in frames:
        chosen: dict[int, bytes] = {}
        while len(found) < len(times) and frame.time_s >= times[len(found)]:
            time_s = times[len(found)]
            is_last = last is not None and time_s - last.time_s <= frame.time_s - time_s
            nearest = last if is_last and last is not None else frame
            if nearest.index not in chosen:
                chosen[nearest.index] = stored(nearest.rgb(image.max_side), image)
            found.append(chosen[nearest.index])
        if len(found) == len(times):
            break
        last = frame
    return found
