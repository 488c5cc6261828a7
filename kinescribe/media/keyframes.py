"""Selects a clip's key frames by motion alone (arXiv:2506.06006, extraction of frame pairs).

Greedy: takes the frame with the most motion, then the next that is far enough from all chosen ones, until
there are `max_keyframes`. Far enough are `min_interval` frames, or `min_interval_s` seconds. Ties go to the
earlier frame. Where the first choice leaves no room for a second, frames without such room don't count: a
pair needs two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kinescribe.schemas.config import KeyFrames


class Moment(NamedTuple):
    """A frame's number in the clip, its time in seconds and its motion."""

    number: int
    time_s: float
    motion: float


def select(moments: Sequence[Moment], config: KeyFrames) -> list[int]:
    """The numbers of the key frames in time order, from the motion of every frame."""
    return sorted(one.number for one in _chosen(moments, config))


class Candidates:
    """The frames that may still become key frames while a clip is being decoded.

    The decoder can drop all others at once, so a single pass is enough for a clip of any length. At the end,
    exactly the frames that `select` chooses are left.
    """

    def __init__(self, config: KeyFrames) -> None:
        self._config = config
        self._moments: list[Moment] = []

    def add(self, moment: Moment) -> None:
        """Add the next frame. Numbers and times must increase."""
        self._moments.append(moment)

    def left(self) -> set[int]:
        """The frames that may still be chosen."""
        if self._moments:
            chosen, undecided = _settle(self._moments, self._config, last=self._moments[-1])
            self._moments = sorted((*chosen, *undecided))
        return {one.number for one in self._moments}

    def chosen(self) -> list[int]:
        """The key frames, after the last frame, in time order."""
        return select(self._moments, self._config)


def _chosen(moments: Sequence[Moment], config: KeyFrames) -> list[Moment]:
    chosen, _ = _settle(moments, config, last=None)
    if len(chosen) > 1:
        return chosen
    ends = [*moments[:1], *moments[-1:]]
    with_room = [one for one in moments if any(not _is_near(one, end, config) for end in ends)]
    return _settle(with_room, config, last=None)[0] or chosen


def _settle(
    moments: Iterable[Moment], config: KeyFrames, last: Moment | None
) -> tuple[list[Moment], list[Moment]]:
    """The frames that are chosen whatever follows, and those that depend on what follows.

    `last` is the latest frame so far, None if nothing follows.
    """
    chosen: list[Moment] = []
    undecided: list[Moment] = []
    for moment in sorted(moments, key=lambda one: (-one.motion, one.number)):
        if len(chosen) == config.max_keyframes:
            break
        if any(_is_near(moment, other, config) for other in chosen):
            continue
        is_reachable = last is not None and _is_near(moment, last, config)
        if is_reachable or any(_is_near(moment, other, config) for other in undecided):
            undecided.append(moment)
        else:
            chosen.append(moment)
    return chosen, undecided


def _is_near(one: Moment, other: Moment, config: KeyFrames) -> bool:
    return (
        abs(one.number - other.number) < config.min_interval
        and abs(one.time_s - other.time_s) < config.min_interval_s
    )
