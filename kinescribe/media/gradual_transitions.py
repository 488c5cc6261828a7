"""Finds gradual transitions between shots on small grey frames: dissolves, fades, and straight wipes.

A frame is compared with one before and one after it, wherever those show different things:

- In a dissolve it is a blend of both, and has less contrast, because unrelated pictures average out.
- In a fade it is flat.
- In a wipe each of its parts is of one or the other, and parts change in order, from side to side.

A camera or an object that moves fast makes the two different as well, but then the frame between is neither,
and motion blur takes more of its contrast than a blend does. Frames within a flash must be left out.

A dissolve of what the flow can't follow, such as water, is seen only between two key frames that show
different things: the contrast dips between them. So is a key frame within a fade, which is blank.
Knows nothing of files, decoders or key frames.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from kinescribe.media.motion import GREY_SIDE, MIN_SIDE, NOISE_VARIANCE, Grey, replaced_share

SIDE = 48
"""Longer side of the frames that are compared."""
MIN_CELLS = 8
MIN_RANGE = 16
"""Of the grey levels of a pixel in a clip; bars have less."""
MIN_GAP_S = 0.06
"""The shortest time between two of them."""
REACHES = (2, 3, 4, 6, 8, 11)
"""How far before and after a frame it is compared, in frames: half the length of a transition."""
CHANGED = 64.0
"""Squared grey levels: only what changes more, on average over 3 x 3 pixels, is compared."""
MIN_CHANGED = 0.1
MIN_CHANGED_BY_WIPE = 0.25
"""Shares of the picture."""
MIN_DIFFERENCE = 0.5
"""Of the two pictures: the mean squared difference over their summed variances, 1 if unrelated."""
MAX_CORRELATION = 0.6
"""Of the two pictures."""
MIDDLE = (0.25, 0.75)
"""Shares of the later picture in a blend."""
MAX_UNEXPLAINED = 0.2
"""Of the difference of the two pictures: the share that no blend of them explains."""
MAX_CONTRAST_OF_FLAT = 0.06
"""Squared differences of neighbouring pixels, over those of the two pictures."""
MIN_SHARPNESS = 0.6
"""The contrast of a blend, across and down, over that of its parts if unrelated: motion blur has less."""
MAX_SUM = 0.7
"""Of a blend's contrast and of what is unexplained."""
MIN_STEPS_OF_WIPE = 6
MIN_ORDER = 0.9
"""In a wipe: the correlation of a column's or row's place with the time of its largest change."""
MIN_SUDDENNESS, MIN_SUDDENNESS_WITHIN = 4.0, 2.6
"""In a wipe: the largest change of a column or row over its mean change, around and within the wipe."""
PER_REACH = 0.02
"""By how much a fade or wipe of a longer reach is preferred, and a dissolve of a shorter one."""
MAX_APART_S = 3.0
MAX_CONTRAST_OF_BLANK = 0.1
"""Of a key frame, over the largest until the next."""
MIN_REPLACED = 0.75
"""Of the structure: the share without a counterpart after, following the flow."""
MAX_DIP = 0.75
"""Of the contrast between two key frames, over that of either."""
MIN_FRAMES = 5
EDGE = 0.65
"""A transition ends where a frame is this share of the way from its middle to the shot's own picture."""
BATCH = 256

Pictures = NDArray[Any]
"""N pictures, as (N, H, W) array."""
Values = NDArray[Any]
"""A number for each picture."""


class Transition(NamedTuple):
    """The last frame of one shot and the first of the next, by their numbers in the clip."""

    last: int
    first: int


class Found(NamedTuple):
    """A transition around a frame: the less it costs, the clearer it is."""

    cost: float
    place: int
    reach: int
    ends: tuple[int, int] | None = None
    """The last frame before it and the first after it, known of a wipe."""
    is_flat: bool = False


class TransitionFinder:
    """Collects a clip's small frames, and finds the transitions at its end."""

    def __init__(self) -> None:
        self._indices: list[int] = []
        self._greys: list[Grey] = []
        self._times_s: list[float] = []

    def add(self, index: int, time_s: float, grey: Grey) -> None:
        """Add the next frame, all of one size."""
        if not self._times_s or time_s - self._times_s[-1] >= MIN_GAP_S:
            self._indices.append(index)
            self._greys.append(grey)
            self._times_s.append(time_s)

    @cached_property
    def _pictures(self) -> list[Grey]:
        """All frames without bars."""
        return [_scaled(grey, GREY_SIDE, MIN_SIDE) for grey in _without_bars(np.stack(self._greys))]

    def transitions(self) -> list[Transition]:
        """The transitions in time order, which do not overlap."""
        if len(self._greys) <= 2 * REACHES[0]:
            return []
        greys = self._pictures
        frames_NHW = np.stack([_scaled(grey, SIDE, MIN_CELLS) for grey in greys])

        found = sorted(_found(frames_NHW), key=itemgetter(0, 1, 2))

        def is_new(one: Found) -> bool:
            return replaced_share(greys[one.place - one.reach], greys[one.place + one.reach]) > MIN_REPLACED

        # They do not overlap, since the ends are within the reach.
        ends = sorted(one.ends or _ends(frames_NHW, one) for one in _clearest(filter(is_new, found)))
        return [Transition(self._indices[start], self._indices[end]) for start, end in ends]

    def interruptions(self, key_frames: Sequence[int]) -> list[Transition]:
        """Neighbours among key frames, given by their numbers, between which the picture is replaced.

        Only those that are at most `MAX_APART_S` apart: in a longer time, motion alone may replace it.
        """
        found: list[Transition] = []
        for source, target in itertools.pairwise(key_frames):
            first, last = bisect_left(self._indices, source), bisect_right(self._indices, target)
            is_near = (
                last - first >= MIN_FRAMES and self._times_s[last - 1] - self._times_s[first] <= MAX_APART_S
            )
            if is_near and _is_replaced(self._pictures[first:last]):
                found.append(Transition(source, target))
        return found


def _is_replaced(greys: Sequence[Grey]) -> bool:
    """Whether the first or last picture is blank, or a blend replaces the first by the last."""
    contrasts_N2 = np.array([_contrast_both_ways(grey) for grey in greys])
    contrasts_N = contrasts_N2.sum(1)
    ends = min(contrasts_N[0], contrasts_N[-1])
    if ends < MAX_CONTRAST_OF_BLANK * contrasts_N.max():
        return True
    # Two neighbours have less contrast than both ends, but no less than some blend of unrelated pictures.
    has_dip = np.maximum(contrasts_N[:-1], contrasts_N[1:]).min() < MAX_DIP * ends
    first, last = contrasts_N2[0], contrasts_N2[-1]
    blended = first * last / np.maximum(first + last, 1)
    is_blend = has_dip and bool((contrasts_N2 > MIN_SHARPNESS * blended).all())
    return is_blend and replaced_share(greys[0], greys[-1]) > MIN_REPLACED


def _contrast_both_ways(grey: Grey) -> tuple[float, float]:
    """`_contrasts` of one picture, by OpenCV, which takes a tenth of the time for whole grey levels."""
    across = cv2.norm(grey[:, 1:], grey[:, :-1], cv2.NORM_L2SQR)
    return across, cv2.norm(grey[1:], grey[:-1], cv2.NORM_L2SQR)


def _without_bars(greys_NHW: Pictures) -> Pictures:
    """The frames without bars, which never change and have no structure."""
    changing = np.ptp(greys_NHW, axis=0) > MIN_RANGE
    return greys_NHW[:, _inside(changing.any(1)), _inside(changing.any(0))]


def _inside(changing_L: NDArray[np.bool_]) -> slice:
    """The rows or columns from the first that changes to the last, without those that are partly bar."""
    places = np.flatnonzero(changing_L)
    if len(places) < MIN_CELLS + 2:
        return slice(None)
    first, last = places[0], places[-1]
    return slice(first + (first > 0), last + (last == len(changing_L) - 1))


def _scaled(grey: Grey, side: int, min_side: int) -> Grey:
    """The picture with its longer side as `side`, and none shorter than `min_side`."""
    scale = side / max(grey.shape)
    height, width = (max(min_side, round(length * scale)) for length in grey.shape)
    if grey.shape == (height, width):
        return np.ascontiguousarray(grey)
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _found(frames_NHW: Pictures) -> Iterator[Found]:
    """Every frame and reach that looks like the middle of a transition."""
    for start in range(0, len(frames_NHW), BATCH):
        part = frames_NHW[start : start + BATCH + 2 * REACHES[-1]].astype(np.float32)
        for reach, places in _candidates(part):
            for one in _middles(part, reach, places[places < BATCH + reach]):
                ends = one.ends and (start + one.ends[0], start + one.ends[1])
                yield one._replace(place=start + one.place, ends=ends)


def _candidates(frames_NHW: Pictures) -> Iterator[tuple[int, Values]]:
    """For each reach the places of frames that may be the middle of a transition.

    A quick look at whole pictures, by their inner products, with bounds that are far from those of a
    transition.
    """
    flat = frames_NHW.reshape(len(frames_NHW), -1)
    products, means = flat @ flat.T, flat.mean(1)
    squares = np.diagonal(products)
    variances = squares / flat.shape[1] - means**2
    contrasts = _contrasts(frames_NHW).sum(0)
    changes = [np.abs(np.diff(frames_NHW, axis=0)).mean(axis) for axis in (1, 2)]
    for reach in REACHES:
        places = np.arange(reach, len(flat) - reach)
        if not len(places):
            return
        before, after = places - reach, places + reach
        across = products[before, after]
        difference = squares[before] + squares[after] - 2 * across
        differs = difference > 0.5 * MIN_DIFFERENCE * flat.shape[1] * (variances[before] + variances[after])
        differs &= difference > CHANGED * MIN_CHANGED * flat.shape[1]
        along = products[places, after] - products[places, before] - across + squares[before]
        step = squares[places] + squares[before] - 2 * products[places, before]
        unexplained = (step - along**2 / np.maximum(difference, 1)) / np.maximum(difference, 1)
        around = contrasts[before] + contrasts[after]
        is_blend = (unexplained < 2 * MAX_UNEXPLAINED) & (contrasts[places] < 0.45 * around)
        is_flat = contrasts[places] < 2 * MAX_CONTRAST_OF_FLAT * np.minimum(
            contrasts[before], contrasts[after]
        )
        is_wipe = np.zeros(len(places), bool)
        if 2 * reach >= MIN_STEPS_OF_WIPE:
            for change_NL in changes:
                windows = np.lib.stride_tricks.sliding_window_view(change_NL, 2 * reach, axis=0)
                sudden = (windows.max(-1) / np.maximum(windows.mean(-1), 1e-6)).mean(1)
                is_wipe |= sudden > MIN_SUDDENNESS
        yield reach, places[differs & (is_blend | is_flat | is_wipe)]


def _middles(frames_NHW: Pictures, reach: int, places: Values) -> Iterator[Found]:
    """Those of the places that look like the middle of a transition of this reach."""
    if not len(places):
        return
    before, middle, after = (frames_NHW[places + step] for step in (-reach, 0, reach))
    difference = after - before
    changed = _smooth(difference * difference) > CHANGED
    number = np.maximum(_total(changed), 1)
    differ = _differ(before, after, changed, number) & (number >= MIN_CHANGED * changed[0].size)
    squared = np.maximum(_total(difference * difference * changed), 1)
    step = middle - before
    share = _total(step * difference * changed) / squared
    rest = (step - share[:, None, None] * difference) * changed
    unexplained = _total(rest * rest) / squared
    both_ways = [_contrasts(pictures, changed) for pictures in (before, middle, after)]
    blended = (1 - share) ** 2 * both_ways[0] + share**2 * both_ways[2]
    sharpness = both_ways[1] / np.maximum(blended, 1)
    is_sharp = ((sharpness > MIN_SHARPNESS) & (sharpness < 1 / MIN_SHARPNESS)).all(0)
    contrasts = [contrast.sum(0) for contrast in both_ways]
    dip = contrasts[1] / np.maximum((contrasts[0] + contrasts[2]) / 2, 1)
    flatness = contrasts[1] / np.maximum(np.minimum(contrasts[0], contrasts[2]), 1)
    in_middle = (share > MIDDLE[0]) & (share < MIDDLE[1])
    is_blend = in_middle & is_sharp & (unexplained < MAX_UNEXPLAINED) & (dip + unexplained < MAX_SUM)
    wide = number > MIN_CHANGED_BY_WIPE * changed[0].size
    for index in np.flatnonzero(differ).tolist():
        place = int(places[index])
        if flatness[index] < MAX_CONTRAST_OF_FLAT:
            yield Found(float(flatness[index]) - PER_REACH * reach, place, reach, is_flat=True)
        elif is_blend[index]:
            yield Found(float(dip[index] + unexplained[index]) + PER_REACH * reach, place, reach)
        elif wide[index] and in_middle[index]:
            first = place - reach
            if ends := _wipe(frames_NHW[first : place + reach + 1]):
                cost = 1 + abs(float(share[index]) - 0.5) - PER_REACH * reach
                yield Found(cost, place, reach, (first + ends[0], first + ends[1]))


def _differ(before: Pictures, after: Pictures, changed: Pictures, number: Values) -> NDArray[np.bool_]:
    """Whether the pictures show different things, in what has changed."""
    centred = []
    for pictures in (before, after):
        mean = _total(pictures * changed) / number
        centred.append((pictures - mean[:, None, None]) * changed)
    variances = [_total(pictures * pictures) for pictures in centred]
    noise = NOISE_VARIANCE * number
    difference = (after - before) * changed
    differs = _total(difference * difference) > MIN_DIFFERENCE * (variances[0] + variances[1] + noise)
    correlation = (_total(centred[0] * centred[1]) + noise) / (np.sqrt(variances[0] * variances[1]) + noise)
    return differs & (correlation < MAX_CORRELATION)


def _contrasts(pictures: Pictures, changed: Pictures | None = None) -> Pictures:
    """The summed squared differences of neighbours across and down, of those that have both changed."""
    across, down = np.diff(pictures, axis=2) ** 2, np.diff(pictures, axis=1) ** 2
    if changed is not None:
        across *= changed[:, :, 1:] & changed[:, :, :-1]
        down *= changed[:, 1:] & changed[:, :-1]
    return np.stack([_total(across), _total(down)])


def _wipe(frames_NHW: Pictures) -> tuple[int, int] | None:
    """The last frame before and the first after a wipe, if columns or rows change suddenly and in order."""
    if len(frames_NHW) < MIN_STEPS_OF_WIPE:
        return None
    steps = np.abs(np.diff(frames_NHW, axis=0))
    for axis in (1, 2):
        change_NL = steps.mean(axis)
        # Where both pictures are alike by chance, nothing changes suddenly.
        suddenness = _suddenness(change_NL)
        places = np.flatnonzero(suddenness > MIN_SUDDENNESS / 2)
        times = change_NL[:, places].argmax(0)
        if len(places) < change_NL.shape[1] / 2 or times.min() == times.max():
            continue
        first, last = int(times.min()), int(times.max()) + 1
        order = abs(np.corrcoef(places, times)[0, 1])
        # In a whip pan all of them change at once, so nothing is sudden within it.
        is_sudden = suddenness.mean() > MIN_SUDDENNESS
        is_sudden &= _suddenness(change_NL[first:last]).mean() > MIN_SUDDENNESS_WITHIN
        if is_sudden and order > MIN_ORDER:
            return first, last
    return None


def _suddenness(change_NL: Pictures) -> Pictures:
    return change_NL.max(0) / np.maximum(change_NL.mean(0), 1e-6)


def _clearest(found: Iterable[Found]) -> list[Found]:
    """The first of those that overlap."""
    kept: list[Found] = []
    for one in found:
        if all(abs(best.place - one.place) >= best.reach + one.reach for best in kept):
            kept.append(one)
    return kept


def _ends(frames_NHW: Pictures, found: Found) -> tuple[int, int]:
    """The last frame before the transition, and the first after it."""
    middle = frames_NHW[found.place].astype(np.float32)

    def edge(step: int) -> int:
        places = range(found.place, found.place + step * (found.reach + 1), step)
        way = frames_NHW[places[-1]] - middle
        length = max(float((way * way).sum()), 1.0)
        gone = (float(((frames_NHW[place] - middle) * way).sum()) / length for place in places)
        return next((place for place, share in zip(places, gone, strict=True) if share > EDGE), places[-1])

    return edge(-1), edge(1)


def _total(pictures: Pictures) -> Values:
    return pictures.sum((1, 2))


def _smooth(pictures: Pictures) -> Pictures:
    return np.stack([np.asarray(cv2.blur(picture, (3, 3))) for picture in pictures])
