"""How often work was started and never came back, and what is tried alone because of it.

The count is kept outside the actor that may die on the work. Knows keys and items, not what they are. Workers
that die before they come to any work are counted too: Ray starts them again for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import ray

Item = TypeVar("Item")
Result = TypeVar("Result")

ISOLATE_AT_START = 3
STARTS_PER_WORKER = 5
"""Before any of them begins something: a few may well be killed by what passes."""


class StartedInVain(Exception):
    """Workers start again and again, and none of them comes to any work."""


class Attempts(Protocol):
    """Counts of starts without an end, by key."""

    def start(self) -> None:
        """Note that a worker starts. Raises StartedInVain where too many did since something was begun."""
        ...

    def begin(self, key: str) -> int:
        """Note a start; how many starts of `key` have had no end, this one included."""
        ...

    def end(self, key: str) -> None:
        """Note that `key` came back: its starts are forgotten."""
        ...


class AttemptCounts:
    """`Attempts` in memory; the Ray actor that all pools share holds one."""

    def __init__(self, most_starts: int) -> None:
        self._open: Counter[str] = Counter()
        self._most_starts = most_starts
        self._num_starts = 0

    def start(self) -> None:
        self._num_starts += 1
        if self._num_starts > self._most_starts:
            raise StartedInVain

    def begin(self, key: str) -> int:
        self._num_starts = 0
        self._open[key] += 1
        return self._open[key]

    def end(self, key: str) -> None:
        del self._open[key]


class RemoteAttempts:
    """`Attempts` held by an actor of their own, which outlives the pools' actors."""

    def __init__(self, num_workers: int) -> None:
        options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
        self.actor = ray.remote(**options)(AttemptCounts).remote(STARTS_PER_WORKER * num_workers)

    def start(self) -> None:
        ray.get(self.actor.start.remote())

    def begin(self, key: str) -> int:
        return ray.get(self.actor.begin.remote(key))

    def end(self, key: str) -> None:
        ray.get(self.actor.end.remote(key))


def attempt(
    attempts: Attempts,
    key: str,
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Result],
    crashed: Callable[[Item], Result],
) -> list[Result]:
    """`work` on all items at once, or at the third start on each alone.

    An item that was begun alone and never ended is the one that kills, and gets `crashed` instead. So
    each start settles at least one more item, and a unit can't be started for ever.
    """
    if attempts.begin(key) < ISOLATE_AT_START:
        results = [work(items)]
    else:
        results = []
        for index, item in enumerate(items):
            alone = f"{key}/{index}"
            if attempts.begin(alone) == 1:
                results.append(work([item]))
                attempts.end(alone)
            else:  # never ended, so that a later start of the unit knows it still
                results.append(crashed(item))
    attempts.end(key)
    return results
