"""How a run went, from the footers of its units: throughput, busy workers, and the bottleneck.

The pauses of a run that was stopped and resumed are left out. A pure function of footers; knows no page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kinescribe.schemas.outcomes import StageTime
from kinescribe.storage.shards import UnitFooter

PAUSE_S = 300
"""If no work and no commit is recorded for so long, the run was stopped."""
FEWEST_BINS, MOST_BINS = 12, 60
Seconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage's workers over the run; `busy` is the mean number of busy workers in each bin."""

    name: str
    num_workers: int
    most_busy: float
    busy: Sequence[float]
    seconds: float
    """Total work on all units."""
    busy_share: float
    """Share of the time from a worker's first unit to the end of its last."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run in bins of `bin_s` seconds, without its pauses."""

    active_s: float
    idle_s: float
    """Time of it in which no worker was busy, for example while models were loaded; 0 without stages."""
    pauses: Sequence[float]
    """The length of each in seconds."""
    bin_s: float
    clips: Sequence[int]
    """Committed in each bin."""
    num_clips: int
    num_triplets: int
    stages: Sequence[Stage]

    @property
    def rates(self) -> list[float]:
        """Clips a minute in each bin."""
        return [60 * num / self.bin_s for num in self.clips]

    @property
    def bottleneck(self) -> Stage | None:
        """The stage whose workers waited least: more workers of the others would not make the run faster.

        None if no worker was busy for most of the time: then no stage was the bottleneck.
        """
        if self.idle_s > self.active_s / 2:
            return None
        return max(self.stages, key=lambda stage: (round(stage.busy_share, 2), stage.seconds), default=None)


def timeline(footers: Sequence[UnitFooter]) -> Timeline | None:
    """None if the footers span no time, for example of a single unit without stages."""
    ends = np.array([footer.committed_at.timestamp() for footer in footers])
    times = [time for footer in footers for time in footer.stages]
    spans = [(time.started, time.started + time.seconds) for time in times]
    active = _merged([*spans, *((end, end) for end in ends)], PAUSE_S)
    clock, pauses = _without_pauses(active)
    active_s = float(clock[1][-1]) if active else 0.0
    if active_s == 0:
        return None
    edges = np.linspace(0, active_s, min(MOST_BINS, max(FEWEST_BINS, len(footers))) + 1)
    num_clips = [len(footer.outcomes) for footer in footers]
    clips, _ = np.histogram(np.interp(ends, *clock), bins=edges, weights=num_clips)
    by_stage: defaultdict[str, list[StageTime]] = defaultdict(list)
    for time in times:
        by_stage[time.stage].append(time)
    return Timeline(
        active_s=active_s,
        idle_s=active_s - sum(end - begin for begin, end in _merged(spans, 0)) if spans else 0.0,
        pauses=pauses,
        bin_s=float(edges[1]),
        clips=[int(num) for num in clips],
        num_clips=sum(num_clips),
        num_triplets=sum(end.num_triplets for footer in footers for end in footer.outcomes),
        stages=[_stage(name, times, clock, edges) for name, times in by_stage.items()],
    )


def _merged(spans: Sequence[tuple[float, float]], pause_s: float) -> list[tuple[float, float]]:
    """The spans in order; those with at most `pause_s` between them become one."""
    merged: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if merged and begin - merged[-1][1] <= pause_s:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _without_pauses(active: Sequence[tuple[float, float]]) -> tuple[tuple[Seconds, Seconds], list[float]]:
    """Points in time with the active seconds until then, for `np.interp`; and the pauses."""
    moments = np.array(active).flatten()
    passed = np.diff(moments, prepend=moments[:1])
    pauses = [float(pause) for pause in passed[2::2]]
    passed[2::2] = 0
    return (moments, np.cumsum(passed)), pauses


def _stage(name: str, times: Sequence[StageTime], clock: tuple[Seconds, Seconds], edges: Seconds) -> Stage:
    started = np.array([time.started for time in times])
    seconds = np.array([time.seconds for time in times])
    begins, ends = np.interp(started, *clock), np.interp(started + seconds, *clock)
    worked = [float(np.clip(edge - begins, 0, ends - begins).sum()) for edge in edges]
    busy = [(after - before) / float(edges[1]) for before, after in pairwise(worked)]
    workers = np.array([time.worker for time in times])
    present = sum(
        float(ends[mine].max() - begins[mine].min())
        for mine in (workers == worker for worker in set(workers))
    )
    total = float(seconds.sum())
    return Stage(name, len({*workers}), max(busy), busy, total, min(1.0, total / max(present, 1e-9)))
