"""Labelled triplets as conversations of a chat model, from the images that the dataset stores.

The images of a dataset are kept as they are stored, and opened when a batch needs them. Shapes: N triplets.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from kinescribe.models.chat_vlm import ChatBatch, ChatVLM
from kinescribe.models.tokens import Triplet
from kinescribe.training.batches import read_rows, whole

COLUMNS = ("triplet_id", "source", "target", "action")


def read_conversations(datasets: Sequence[str]) -> pa.Table:
    """Images and action of every triplet, in order; see `read_rows`."""
    return whole(read_rows(datasets, COLUMNS))


class ConversationBatches:
    """Batches of what the model is asked of two images and what it should answer."""

    def __init__(self, table: pa.Table, vlm: ChatVLM) -> None:
        self.table = table
        self.vlm = vlm

    def __len__(self) -> int:
        return len(self.table)

    def batch(self, samples: Sequence[int], positions: Sequence[int]) -> ChatBatch:
        """The samples padded on the right; nothing about them is random."""
        rows: list[dict[str, Any]] = self.table.take([*samples]).to_pylist()
        triplets = [
            Triplet(self._seen(row["source"]), self._seen(row["target"]), row["action"]) for row in rows
        ]
        return self.vlm.batch(triplets)

    def _seen(self, image: dict[str, Any]) -> Any:
        return self.vlm.see(None, partial(image.__getitem__, "bytes"))
