"""How long a stage took over a unit, as the unit's object will say."""

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


def timed(stage: str, work: Callable[[], Result], share: float = 1.0) -> tuple[Result, StageTime]:
    """What `work` gives, and the time that it took in a worker that has so many cores, or GPUs, to itself.

    Work that waits for a core, as beside models that load, takes longer than it will elsewhere.
    """
    started, begin, before = time.time(), time.perf_counter(), _waited_s()
    result = work()
    seconds = time.perf_counter() - begin
    waited_s = sum(waited - before.get(process, 0.0) for process, waited in _waited_s().items())
    work_s = share * max(0.0, seconds - waited_s)
    return result, StageTime(stage, started, seconds, f"{platform.node()}/{os.getpid()}", work_s)


def _waited_s() -> dict[str, float]:
    """Seconds that this thread and each process that this one started could have run but had no core.

    Of a kernel that doesn't say, none.
    """
    waited: dict[str, float] = {}
    for task in ("thread-self", *_children()):
        with suppress(OSError):  # it may have ended
            waited[task] = int(Path(f"/proc/{task}/schedstat").read_text().split()[1]) / 1e9
    return waited


def _children() -> Iterator[str]:
    """Ids of the processes that this one started; reading of all processes would take milliseconds."""
    for thread in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            yield from thread.read_text().split()
