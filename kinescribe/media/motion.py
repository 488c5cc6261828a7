"""Measures motion between small grey frames, and finds shot boundaries.

Knows nothing of files, decoders or key frames.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

GREY_SIDE = 96
"""Longer side of the frames on which motion is measured throughout a clip."""
PAIR_SIDE = 128
"""Longer side of the frames on which a pair's motion is measured. All motion is in their pixels."""
MIN_SIDE = 40
"""OpenCV's DIS flow crashes on images of fewer than about 32 pixels in height or width."""
ALIKE = 0.9
"""Frames that correlate this much pixel by pixel are not compared further: there is no cut between them."""
NOISE_VARIANCE = 9.0
"""Grey levels squared: structure with less variance may be noise."""
CHANGE_VARIANCE = 16.0
"""Grey levels squared: a difference with less variance may be noise."""
MAX_SMEAR = 1.5
BAR_VARIANCE = 1.0
"""Grey levels squared: bars have less, also after lossy coding."""
MIN_PICTURE = 0.25
NUM_BEFORE, NUM_AFTER = 3, 2
BEFORE_S, AFTER_S = 0.2, 0.12
"""The frames before and after one that decide whether it is a cut, a flash or fast motion: at least so many,
and all within this time, in which a flash ends."""

Grey = NDArray[np.uint8]
Flow = NDArray[np.float32]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class GreyFrame(Generic[Item]):
    """A frame to measure: its number in the clip, its time in seconds, its grey image, and itself."""

    index: int
    time_s: float
    grey: Grey
    item: Item


@dataclass(frozen=True, slots=True)
class Measured(Generic[Item]):
    """A frame, its motion since the previous one, and whether a shot starts with it or a flash hides it."""

    sample: GreyFrame[Item]
    motion: float
    is_cut: bool
    is_flash: bool = False


class _Change(NamedTuple):
    """What happens from one frame to the next: motion, unless the picture is replaced."""

    is_cut: bool = False
    flash: int | None = None
    """The number of frames after which the picture is as before; 0 if it is as before a flash again."""


def grey_size(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) scaled to `side`, and at least `MIN_SIDE`, which widens very narrow frames."""
    scale = side / max(width, height)
    return max(MIN_SIDE, round(width * scale)), max(MIN_SIDE, round(height * scale))


def pair_motion(source: Grey, target: Grey) -> float:
    """Mean flow magnitude from source to target, in pixels at 128 on the longer side.

    Unchanged parts count as still, because on smooth surfaces the flow follows the noise.
    """
    lengths = _magnitude(_flow(source, target, cv2.DISOPTICAL_FLOW_PRESET_MEDIUM))
    return float((lengths * _has_changed(source, target)[2::4, 2::4]).mean())


def measure(samples: Iterable[GreyFrame[Item]], cut_threshold: float) -> Iterator[Measured[Item]]:
    """Motion per frame and shot boundaries in order, a few frames behind the input.

    A cut and a flash have no motion: the picture was replaced, and nothing moved.
    """
    num_hidden = 0
    for before, sample, after in _surroundings(samples):
        if not before:
            yield Measured(sample, 0.0, is_cut=False)
            continue
        previous = before[-1]
        flow_HW2 = _flow(previous.grey, sample.grey)
        greys = [frame.grey for frame in (*before, sample, *after)]
        change = _change(greys, len(before), flow_HW2, cut_threshold)
        num_hidden = max(num_hidden - 1, 0) if change.flash is None else change.flash
        moves = not change.is_cut and change.flash is None
        motion = float(np.mean(_magnitude(flow_HW2))) / (sample.index - previous.index) if moves else 0.0
        yield Measured(sample, motion, change.is_cut, num_hidden > 0)


def _surroundings(
    samples: Iterable[GreyFrame[Item]],
) -> Iterator[tuple[list[GreyFrame[Item]], GreyFrame[Item], list[GreyFrame[Item]]]]:
    """Each frame with the ones shortly before and after it, of which there are fewer at the ends."""
    before: deque[GreyFrame[Item]] = deque()
    pending: deque[GreyFrame[Item]] = deque()
    for latest in itertools.chain(samples, [None]):
        if latest:
            pending.append(latest)
        while pending and (latest is None or _is_surrounded(pending)):
            sample = pending.popleft()
            while len(before) > NUM_BEFORE and sample.time_s - before[0].time_s > BEFORE_S:
                before.popleft()
            yield list(before), sample, list(pending)
            before.append(sample)


def _is_surrounded(pending: deque[GreyFrame[Item]]) -> bool:
    """Whether enough frames are known after the first."""
    return len(pending) > NUM_AFTER and pending[-1].time_s - pending[0].time_s >= AFTER_S


def _change(greys: Sequence[Grey], position: int, flow_HW2: Flow, threshold: float) -> _Change:
    """Classifies the change from the frame before `position`, from which `flow_HW2` leads to it.

    A large part of the picture without a counterpart means a flash if some frame before resembles one after,
    a cut if the change stands out from all steps around it and is not within motion blur, and fast motion
    otherwise.
    """
    before, after = greys[:position], greys[position:]
    if _difference(before[-1], after[0]) < 1 - ALIKE:
        return _Change()
    unmatched = unmatched_share(before[-1], after[0], flow_HW2)
    if unmatched < threshold:
        return _Change()
    for num, new in enumerate(after):
        if any(unmatched_share(old, new) < max(threshold, unmatched / 2) for old in before):
            return _Change(flash=num)
    steps = (*itertools.pairwise(before), *itertools.pairwise(after))
    stands_out = all(unmatched - unmatched_share(*step) >= threshold for step in steps)
    is_smeared = min(_smear(before[0], before[-1]), _smear(after[0], after[-1])) > MAX_SMEAR
    replaces = stands_out and not is_smeared and unmatched_share(after[0], before[-1]) >= threshold
    return _Change(is_cut=replaces)


def _smear(one: Grey, other: Grey) -> float:
    """How much more the contrast of two frames of a shot differs across than down, or down than across.

    Motion blur takes contrast along the motion only.
    """
    ratios = (
        (cv2.norm(grey[:, 1:], grey[:, :-1], cv2.NORM_L2SQR) + grey.size)
        / (cv2.norm(grey[1:], grey[:-1], cv2.NORM_L2SQR) + grey.size)
        for grey in (one, other)
    )
    return math.exp(abs(math.log(next(ratios) / next(ratios))))


def _difference(source: Grey, target: Grey) -> float:
    """One minus the correlation, at a twentieth of its cost: squared difference over twice the variance."""
    spread = max(float(cv2.meanStdDev(grey)[1][0, 0]) for grey in (source, target))
    squared = cv2.norm(source, target, cv2.NORM_L2SQR) / source.size
    return squared / (2 * spread**2 + NOISE_VARIANCE)


def unmatched_share(source: Grey, target: Grey, flow_HW2: Flow | None = None) -> float:
    """The share of the source's picture, without bars, that has no counterpart in the target.

    A counterpart is where the flow leads or in the same place. The picture has at least `MIN_PICTURE` of the
    frame.
    """
    flow_HW2 = _flow(source, target) if flow_HW2 is None else flow_HW2
    is_new, variance = _unmatched(source, target, flow_HW2)
    # Beside something new the flow errs.
    is_new &= _unmatched(source, target, np.zeros_like(flow_HW2))[0]
    return float(is_new.mean()) / max(_picture_share(variance), MIN_PICTURE)


def replaced_share(source: Grey, target: Grey) -> float:
    """The share of the structure of either picture that has no counterpart in the other: the smaller of both.

    Pictures that are mostly flat have little structure to compare, and it may all be replaced.
    """
    shares: list[float] = []
    for one, other in ((source, target), (target, source)):
        is_new, variance = _unmatched(one, other, _flow(one, other))
        shares.append(float(is_new.sum() / max((variance > CHANGE_VARIANCE).sum(), 1)))
    return min(shares)


def _unmatched(source: Grey, target: Grey, flow_HW2: Flow) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    """Where the source has no counterpart in the target, following the flow, and the variance in both there.

    Compares patches by local correlation, so a change of light doesn't count, and flat patches match.
    """
    moved = cv2.remap(
        target,
        _places(source.shape) + flow_HW2,
        cast("Flow", None),  # the map's two channels are x and y
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    a, b = source.astype(np.float32), moved.astype(np.float32)
    mean_a, mean_b = _local_mean(a), _local_mean(b)
    variance = (_local_mean(a * a) - mean_a**2 + _local_mean(b * b) - mean_b**2) / 2
    covariance = _local_mean(a * b) - mean_a * mean_b
    return covariance + NOISE_VARIANCE < 0.5 * (variance + NOISE_VARIANCE), variance


def _picture_share(variance_HW: NDArray[np.floating]) -> float:
    """The share of the smallest rectangle with all structure."""
    structure = variance_HW > BAR_VARIANCE
    spans = (np.flatnonzero(structure.any(axis)) for axis in (0, 1))
    height, width = structure.shape
    lengths = [float(span[-1] - span[0] + 1) if len(span) else 0.0 for span in spans]
    return lengths[0] * lengths[1] / (height * width)


@functools.lru_cache(maxsize=4)
def _places(shape: tuple[int, int]) -> Flow:
    """Each pixel's own (x, y), as (height, width, 2)."""
    return np.stack(np.meshgrid(*(np.arange(size, dtype=np.float32) for size in shape[::-1])), -1)


def _local_mean(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(image, (9, 9)), np.float32)


def _flow(source: Grey, target: Grey, preset: int = cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST) -> Flow:
    no_initial_flow = cast("Flow", None)
    return np.asarray(_estimator(preset).calc(source, target, no_initial_flow), np.float32)


@functools.cache
def _estimator(preset: int) -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow.create(preset)


def _has_changed(source: Grey, target: Grey) -> NDArray[np.bool_]:
    """Where the picture has changed by more than noise and light."""
    difference = np.subtract(target, source, dtype=np.float32)
    variance = _local_mean(difference * difference) - _local_mean(difference) ** 2
    return variance > CHANGE_VARIANCE


def _magnitude(flow_HW2: Flow) -> NDArray[np.float32]:
    """Length of the flow, in pixels of a frame of 128 on the longer side, at every fourth pixel."""
    grid = flow_HW2[2::4, 2::4]  # DIS computes it on such a grid and interpolates the rest
    return np.hypot(grid[..., 0], grid[..., 1]) * (PAIR_SIDE / max(flow_HW2.shape))
