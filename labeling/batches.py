"""Micro-batches over a model that may fail on an item or run out of memory; knows no model and no clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from models.dynamics import Failure

Item = TypeVar("Item")
Result = TypeVar("Result")


class MicroBatches:
    """Runs calls over at most `size` items; out-of-memory lowers `size` for all calls to come."""

    def __init__(self, size: int) -> None:
        assert size > 0
        self.size = size

    def run(
        self, items: Sequence[Item], call: Callable[[Sequence[Item]], Sequence[Result | Failure]]
    ) -> list[Result | Failure]:
        """One result or Failure for each item, in order.

        A Failure is what `call` gave for an item, or what it raised on that item alone.
        """
        results: list[Result | Failure] = []
        while len(results) < len(items):
            results += self._attempt(items[len(results) : len(results) + self.size], call)
        return results

    def _attempt(
        self, batch: Sequence[Item], call: Callable[[Sequence[Item]], Sequence[Result | Failure]]
    ) -> list[Result | Failure]:
        try:
            results = list(call(batch))
        except Exception as error:  # noqa: BLE001  the unit's edge: what a model raises rejects a clip
            if len(batch) == 1:
                return [Failure(f"{type(error).__name__}: {error}")]
            if is_out_of_memory(error):
                self.size = min(self.size, len(batch) // 2)
        else:
            assert len(results) == len(batch), (len(results), len(batch))
            return [*results]
        # Halved outside the handler: its traceback would keep the failed batch's tensors alive.
        middle = len(batch) // 2
        return self._attempt(batch[:middle], call) + self._attempt(batch[middle:], call)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the accelerator or the host could not give the memory that a batch wanted."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in message or "can't allocate memory" in message
    )
