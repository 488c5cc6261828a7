"""How long a stage took over a unit, as the unit's object will say."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import TypeVar

from schemas.outcomes import StageTime

Result = TypeVar("Result")


def timed(stage: str, work: Callable[[], Result]) -> tuple[Result, StageTime]:
    """What `work` gives, and the time that it took in this process."""
    started, begin = time.time(), time.perf_counter()
    result = work()
    seconds = time.perf_counter() - begin
    return result, StageTime(stage, started, seconds, f"{platform.node()}/{os.getpid()}")
