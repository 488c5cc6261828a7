"""Training of a chat model as a dynamics model, on conversations about the images of datasets.

Images stay compressed until a batch needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from kinescribe.models.chat_vlm import ChatBatch, ChatVLM
from kinescribe.models.checkpoint_files import model_folder
from kinescribe.models.tokens import Triplet
from kinescribe.schemas.annotation import Asking
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.prompts import CLASS
from kinescribe.schemas.training import DynamicsTraining
from kinescribe.storage.examples import read_examples
from kinescribe.training.batches import SampleOrder, read_rows, whole
from kinescribe.training.objective import TokenObjective
from kinescribe.training.tasks import TrainingTask
from kinescribe.training.usual_likelihoods import write_usual_likelihoods

COLUMNS = ("triplet_id", "source", "target", "action", CLASS)


def read_conversations(datasets: Sequence[str], context_frames: int = 0) -> pa.Table:
    """Images and action of every triplet, in order.

    Raises as `read_rows` does, and DatasetError if a triplet has another number of frames between its two.
    """
    table = whole(read_rows(datasets, [*COLUMNS, "context"] if context_frames else COLUMNS))
    if context_frames:
        counts = set(pc.call_function("list_value_length", [table["context"]]).unique().to_pylist())
        if wrong := counts - {context_frames}:
            raise DatasetError(
                f"context_frames is {context_frames}, but triplets of the data have {wrong.pop() or 0}; "
                "label with that annotation.context_frames, or set context_frames to it"
            )
    return table


class ConversationBatches:
    """Batches of conversations: two images, the question and the answer that the model should learn."""

    def __init__(self, table: pa.Table, vlm: ChatVLM, asking: Asking | None = None) -> None:
        self.table = table
        self.vlm = vlm
        self.asking = asking or Asking()
        self.examples = read_examples(self.asking)

    def __len__(self) -> int:
        return len(self.table)

    def batch(self, samples: Sequence[int], positions: Sequence[int]) -> ChatBatch:
        """The samples, padded on the right. Nothing in them is random."""
        return self.vlm.batch([self.triplet(sample) for sample in samples])

    def triplet(self, sample: int) -> Triplet[Any]:
        """The images and the action of a sample, and what is asked about it."""
        row: dict[str, Any] = self.table.slice(sample, 1).to_pylist()[0]
        source, target = self._seen(row["source"]), self._seen(row["target"])
        prompt = self.asking.prompt(row, self.examples)
        return Triplet(source, target, row["action"], prompt, tuple(map(self._seen, row.get("context", ()))))

    def _seen(self, image: dict[str, Any]) -> Any:
        return self.vlm.see(None, partial(image.__getitem__, "bytes"))


class ChatTask(TrainingTask):
    """Trains a chat model as a dynamics model on the images and actions of datasets."""

    def __init__(self, config: DynamicsTraining, device: torch.device | None = None) -> None:
        assert config.init is not None
        self.config = config
        self.vlm = ChatVLM.load(model_folder(config.init), device=device)
        self.lora = config.lora is not None
        if config.lora:
            from kinescribe.training.lora import with_adapters

            self.vlm.network = with_adapters(self.vlm.network, config.lora, config.init)
        self.module = TokenObjective(self.vlm.network)
        data, held_out = (
            read_conversations(names, config.context_frames) if names else None
            for names in (config.data, config.held_out)
        )
        assert data is not None
        self.batches = ConversationBatches(data, self.vlm, config)
        self.order = SampleOrder(len(self.batches), config.batch, config.seed)
        self.held_out = ConversationBatches(held_out, self.vlm, config) if held_out is not None else None

    def export(self, folder: Path) -> None:
        """Write a folder that `ChatVLM.load` opens. With LoRA, it is merged; `adapter/` holds the adapter
        alone."""
        if self.lora:
            from kinescribe.training.lora import save_and_merge

            self.vlm.network = save_and_merge(self.vlm.network, folder / "adapter")
        self.vlm.save(folder)
        if isinstance(self.held_out, ConversationBatches):
            write_usual_likelihoods(folder, self.vlm, self.held_out, self.config)
