"""One event loop, in a thread of its own, for all requests of this process.

Several threads that ask the same server share its limit of requests at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")
_LOCK = threading.Lock()
_LOOPS: list[asyncio.AbstractEventLoop] = []


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which runs in the loop; it is cancelled if this thread is interrupted."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    finally:
        future.cancel()  # which changes nothing once there is a result


def _loop() -> asyncio.AbstractEventLoop:
    with _LOCK:
        if not _LOOPS:
            _LOOPS.append(asyncio.new_event_loop())
            threading.Thread(target=_LOOPS[0].run_forever, daemon=True).start()
        return _LOOPS[0]
