"""Micro-batches for a model that may fail on an item or run out of memory. Knows no model and no clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from kinescribe.models.dynamics import Failure
from kinescribe.schemas.errors import ServerAway

Item = TypeVar("Item")
Result = TypeVar("Result")
CPU_SIZE, GPU_SIZE = 16, 128
"""On a CPU, the embedded model is no faster with more."""


def first_size(asked: int | None, on_gpu: bool) -> int:
    """The size of a model's first micro-batch: `asked`, or else what suits the hardware.

    On a GPU it is large, and `MicroBatches` lowers it to what the memory holds. Nothing is timed, because
    then rounding would differ from run to run.
    """
    return asked or (GPU_SIZE if on_gpu else CPU_SIZE)


class MicroBatches:
    """Calls a function on at most `size` items at a time; running out of memory lowers `size` for good."""

    def __init__(self, size: int) -> None:
        assert size > 0
        self.size = size

    def run(
        self,
        items: Sequence[Item],
        call: Callable[[Sequence[Item]], Sequence[Result | Failure]],
        length: Callable[[Item], Any] = lambda item: 0,
    ) -> list[Result | Failure]:
        """One result or Failure for each item, in order.

        A Failure is what `call` returned for an item, or what it raised on that item alone; only ServerAway
        is raised. Items of similar `length` share a call, so that little is padded. The longest need most
        memory and come first.
        """
        order = sorted(range(len(items)), key=lambda place: length(items[place]), reverse=True)
        results: list[Result | Failure] = []
        while len(results) < len(items):
            places = order[len(results) : len(results) + self.size]
            results += self._attempt([items[place] for place in places], call)
        in_order = dict(zip(order, results, strict=True))
        return [in_order[place] for place in range(len(items))]

    def _attempt(
        self, batch: Sequence[Item], call: Callable[[Sequence[Item]], Sequence[Result | Failure]]
    ) -> list[Result | Failure]:
        try:
            results = list(call(batch))
        except ServerAway:  # not the batch's fault
            raise
        except Exception as error:  # noqa: BLE001  error boundary: an exception of a model rejects a clip
            if len(batch) == 1:
                return [Failure(f"{type(error).__name__}: {error}")]
            if is_out_of_memory(error):
                self.size = min(self.size, len(batch) // 2)
        else:
            assert len(results) == len(batch), (len(results), len(batch))
            return [*results]
        # Halved outside the handler, whose traceback keeps the failed batch's tensors alive.
        middle = len(batch) // 2
        return self._attempt(batch[:middle], call) + self._attempt(batch[middle:], call)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the GPU or the host had too little memory for a batch."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in message or "can't allocate memory" in message
    )
