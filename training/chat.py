"""Labelled triplets as conversations of a chat model, from the images that the dataset stores.

The images of a dataset are kept as they are stored, and opened when a batch needs them. Shapes: N triplets.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from models.chat_vlm import ChatBatch, ChatVLM
from models.tokens import Triplet
from schemas.errors import DatasetError
from storage.shards import scan
from training.batches import require_words

COLUMNS = ("triplet_id", "source", "target", "action")


def read_conversations(datasets: Sequence[str]) -> pa.Table:
    """Images and action of every triplet, in order.

    Raises DatasetError where there are none, and where an action has no words.
    """
    tables = [scan(dataset, COLUMNS).to_table() for dataset in datasets]
    for dataset, table in zip(datasets, tables, strict=True):
        require_words(dataset, table)
    table = pa.concat_tables([table.replace_schema_metadata() for table in tables])
    if not len(table):
        raise DatasetError(f"data {[*datasets]} holds no triplet to train on; name other datasets")
    return table


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
        return self.vlm.see(np.empty(0, np.uint16), partial(image.__getitem__, "bytes"))
