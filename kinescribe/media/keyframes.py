"""Selects a clip's key frames by motion alone (arXiv:2506.06006, extraction of frame pairs).

Greedy: takes the frame with the most motion, then the next that is at least `min_interval` frames away from
all chosen ones, until there are `max_keyframes`. Ties go to the earlier frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kinescribe.schemas.config import KeyFrames


def select(motion: Sequence[float], config: KeyFrames) -> list[int]:
    """Indices of the key frames in time order, from the motion of every frame."""
    chosen, _ = _settle(dict(enumerate(motion)), config, next_index=None)
    return sorted(chosen)


class Candidates:
    """The frames that may still become key frames while a clip is being decoded.

    The decoder can drop all others at once, so a single pass is enough for a clip of any length. At the end,
    exactly the frames that `select` chooses are left.
    """

    def __init__(self, config: KeyFrames) -> None:
        self._config = config
        self._motion: dict[int, float] = {}

    def add(self, index: int, motion: float) -> None:
        """Add the next frame. Indices must increase."""
        self._motion[index] = motion

    def left(self, next_index: int | None) -> set[int]:
        """The frames that may still be chosen; the next frame is `next_index`, or None at the end."""
        chosen, undecided = _settle(self._motion, self._config, next_index)
        self._motion = {index: self._motion[index] for index in (*chosen, *undecided)}
        return set(self._motion)


def _settle(
    motion: Mapping[int, float], config: KeyFrames, next_index: int | None
) -> tuple[list[int], list[int]]:
    """The frames that are chosen whatever follows, and those that depend on what follows."""
    chosen: list[int] = []
    undecided: list[int] = []
    for index in sorted(motion, key=lambda place: (-motion[place], place)):
        if len(chosen) == config.max_keyframes:
            break
        if _near(index, chosen, config.min_interval):
            continue
        reachable = next_index is not None and next_index - index < config.min_interval
        if reachable or _near(index, undecided, config.min_interval):
            undecided.append(index)
        else:
            chosen.append(index)
    return chosen, undecided


def _near(index: int, others: Sequence[int], min_interval: int) -> bool:
    return any(abs(index - other) < min_interval for other in others)
