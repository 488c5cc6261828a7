"""Counts how often work was started without coming back, and isolates the item that kills its worker.

Carries the workers' notes to the driver as well.

The counts live outside the workers, which may die. They also cover workers that die before they begin any
work, because Ray restarts those for ever. Knows keys and items, not what they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray

Item = TypeVar("Item")
Result = TypeVar("Result")

ISOLATE_AT_START = 3
ANSWER_TIMEOUT_S = 5.0
STARTS_PER_WORKER = 5
"""How many starts are allowed before any worker begins some work; a passing shortage may kill a few."""


class WorkersKeepDying(Exception):
    """Workers start again and again, and none of them begins any work."""


class Attempts:
    """Starts without an end, by key. Several pools share one instance; see `RemoteAttempts`."""

    def __init__(self, max_starts: int) -> None:
        self._open: Counter[str] = Counter()
        self._max_starts = max_starts
        self._num_starts = 0
        self._num_loaded = 0
        self._notes: list[str] = []
        self._last_note = ""

    def start(self) -> None:
        """Count a worker's start. Raises WorkersKeepDying after `max_starts` of them without any work."""
        self._num_starts += 1
        if self._num_starts > self._max_starts:
            raise WorkersKeepDying

    def load(self) -> None:
        """Count a worker that has loaded its model."""
        self._num_loaded += 1

    def note(self, text: str) -> None:
        """Note something for the user, once if several workers say the same."""
        if text != self._last_note:
            self._last_note = text
            self._notes.append(text)

    def news(self) -> tuple[int, list[str]]:
        """How many workers have loaded their model, and the notes since the last call."""
        notes, self._notes = self._notes, []
        return self._num_loaded, notes

    def begin(self, key: str) -> int:
        """Count a start of `key`, and return how many of its starts have no end yet, including this one."""
        self._num_starts = 0
        self._open[key] += 1
        return self._open[key]

    def end(self, key: str) -> None:
        """Forget the starts of `key`: its work came back."""
        del self._open[key]


class RemoteAttempts(Attempts):
    """`Attempts` in a Ray actor, which outlives the workers of the pools."""

    def __init__(self, num_workers: int) -> None:
        remote: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts)
        self.actor: Any = remote.remote(STARTS_PER_WORKER * num_workers)

    def start(self) -> None:
        ray.get(self.actor.start.remote())

    def load(self) -> None:
        ray.get(self.actor.load.remote())

    def note(self, text: str) -> None:
        ray.get(self.actor.note.remote(text))

    def news(self) -> tuple[int, list[str]]:
        return ray.get(self.actor.news.remote(), timeout=ANSWER_TIMEOUT_S)

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
    """Run `work` on all items together, or from the third start on each item alone.

    An item that was begun alone and never ended killed its worker: it gets `crashed` instead. Each start
    settles at least one more item, so a unit can't be restarted for ever.
    """
    if attempts.begin(key) < ISOLATE_AT_START:
        results = [work(items)]
    else:
        results: list[Result] = []
        for index, item in enumerate(items):
            item_key = f"{key}/{index}"
            if attempts.begin(item_key) == 1:
                results.append(work([item]))
                attempts.end(item_key)
            else:  # stays without an end, so that a later start of the unit skips it too
                results.append(crashed(item))
    attempts.end(key)
    return results
