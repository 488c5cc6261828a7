"""Cuts long videos into windows, and groups clips into work units. Opens no file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from kinescribe.schemas.clips import Clip, WorkUnit, stable_id


def cut_windows(clip: Clip, duration_s: float | None, window_s: float) -> list[Clip]:
    """The clip in windows of `window_s`, or the clip alone if it is no longer than that or its end unknown.

    `duration_s` is that of the whole file. The last window ends with the clip, so that nothing is lost if
    the header states a little less than the file has.
    """
    start_s = clip.start_s or 0.0
    end_s = min((end for end in (clip.end_s, duration_s) if end is not None), default=start_s)
    # Rounded, because (349.6 - 199.6) / 30 is a little more than 5.
    num_windows = math.ceil(round((end_s - start_s) / window_s, 6))
    if num_windows <= 1:
        return [clip]
    starts = [start_s + index * window_s for index in range(num_windows)]
    ends = [*starts[1:], clip.end_s]
    return [
        replace(clip, clip_id=stable_id(clip.clip_id, start, end), start_s=start, end_s=end)
        for start, end in zip(starts, ends, strict=True)
    ]


def plan_units(clips: Sequence[Clip], clips_per_unit: int, fingerprint: str) -> list[WorkUnit]:
    """The clips in order, `clips_per_unit` to a unit. A unit's id is a hash of the run and its clips."""
    ids = unit_ids((clip.clip_id for clip in clips), clips_per_unit, fingerprint)
    return list(units_of(clips, ids, clips_per_unit))


def unit_ids(clip_ids: Iterable[str], clips_per_unit: int, fingerprint: str) -> list[str]:
    """The ids of the units that `plan_units` makes of the clips with these ids."""
    remaining = iter(clip_ids)
    groups = iter(lambda: tuple(islice(remaining, clips_per_unit)), ())
    return [stable_id(fingerprint, *group) for group in groups]


def units_of(clips: Iterable[Clip], ids: Sequence[str], clips_per_unit: int) -> Iterator[WorkUnit]:
    """The units with these ids, with the clips of only one in memory."""
    remaining = iter(clips)
    return (WorkUnit(unit_id, tuple(islice(remaining, clips_per_unit))) for unit_id in ids)
