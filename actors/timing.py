"""Measures how long a stage worked on a unit; the unit's object records it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from kinescribe.schemas.outcomes import StageTime

Result = TypeVar("Result")


def timed(
    stage: str, work: Callable[[], Result], share: float = 1.0, waits: bool = False
) -> tuple[Result, StageTime]:
    """The result of `work`, and how long it took in a worker that has `share` cores or GPUs to itself.

    Time spent waiting for a core is left out: beside models that load, work takes longer than it will later.
    If it `waits` for others, such as a server, only this thread's computing is work.
    """
    started, begin, before, computed = time.time(), time.perf_counter(), _waited_s(), time.thread_time()
    result = work()
    seconds = time.perf_counter() - begin
    waited_s = sum(waited - before.get(process, 0.0) for process, waited in _waited_s().items())
    work_s = time.thread_time() - computed if waits else share * max(0.0, seconds - waited_s)
    return result, StageTime(stage, started, seconds, f"{platform.node()}/{os.getpid()}", work_s)


def _waited_s() -> dict[str, float]:
    """For how many seconds this thread and each child process were ready to run but had no core.

    Empty if the kernel doesn't say.
    """
    waited: dict[str, float] = {}
    for task in ("thread-self", *_children()):
        with suppress(OSError):  # it may have ended
            waited[task] = int(Path(f"/proc/{task}/schedstat").read_text().split()[1]) / 1e9
    return waited


def _children() -> Iterator[str]:
    """The ids of this process's children; reading those of all processes would take milliseconds."""
    for thread in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            yield from thread.read_text().split()
