"""How likely a trained model's words are to it on held-out data, for its card.

Knows models; nothing of steps or ranks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from kinescribe.models.model_card import write_card
from kinescribe.models.tokens import Triplet
from kinescribe.schemas.config import Annotation
from kinescribe.schemas.likelihoods import histogram
from kinescribe.schemas.training import TrainConfig

if TYPE_CHECKING:
    from kinescribe.models.chat_vlm import ChatVLM
    from kinescribe.models.token_vlm import TokenVLM


MOST_PAIRS = 512
"""As many as give the median to a few percent."""


class HeldOut(Protocol):
    """Triplets by index."""

    def __len__(self) -> int: ...

    def triplet(self, sample: int) -> Triplet[Any]:
        """The triplet with this index."""
        ...


def write_usual_likelihoods(
    folder: Path, model: TokenVLM | ChatVLM, held_out: HeldOut, config: TrainConfig
) -> None:
    """Describe the first held-out pairs, and write the model's card.

    Not with ZeRO-3, under which a network can't be used in one process alone.
    """
    if config.engine.zero_stage == 3:
        return
    model.network.eval()
    num, size = min(len(held_out), config.held_out_samples, MOST_PAIRS), config.rank_micro_batch
    triplets = [held_out.triplet(sample) for sample in range(num)]
    pairs = [triplet.pair for triplet in triplets]
    said = [
        one
        for start in range(0, num, size)
        for one in model.describe(pairs[start : start + size], Annotation().max_new_tokens)
    ]
    logprobs = pa.array([one.logprob for one in said], pa.float32())
    write_card(folder, histogram(logprobs, pa.array([one.num_tokens for one in said], pa.int32())))
