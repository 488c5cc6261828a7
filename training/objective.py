"""The weighted next-token objective (METHOD §3) and the module that computes it.

Knows tensors and a causal network; nothing of datasets, ranks or optimizers. Shapes: B sequences, T
tokens, K columns in which some sequence has a weight, N = B·K, V vocabulary, L tokens of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn


class WeightedBatch(Protocol):
    """Sequences as a network takes them, with the weight of each token as a prediction."""

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """By the names of the network's own arguments, `input_ids` (B, T) among them."""
        ...

    @property
    def weights_BT(self) -> Tensor:
        """float32, 0 on the prompt and on padding."""
        ...


class TokenBatch(NamedTuple):
    """Sequences padded on the right, with the weight of each token as a prediction."""

    ids_BT: Tensor
    """int64."""
    positions_BT: Tensor
    """int64."""
    weights_BT: Tensor
    """float32, 0 on the prompt and on padding."""

    @property
    def inputs(self) -> dict[str, Tensor]:
        """See `WeightedBatch.inputs`."""
        return {"input_ids": self.ids_BT, "position_ids": self.positions_BT}

    @property
    def total_weight(self) -> float:
        """Σ w, what the sums of this batch are divided by, together with those of its step."""
        return float(self.weights_BT[:, 1:].sum())


def weighted_nll(logits_NV: Tensor, targets_N: Tensor, weights_N: Tensor) -> Tensor:
    """−Σ_n w_n · log p(target_n): the numerator of  min_θ −Σ w·log p / Σ w  (METHOD §3)."""
    nll_N = F.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    return (weights_N * nll_N).sum()


def image_weights(importance_L: NDArray[Any], floor: float) -> NDArray[np.float32]:
    """The weights of an image's tokens: mean 1, none below `floor`, in proportion to `importance` above.

    An image that equals its source has no importance anywhere; its tokens weigh the same.
    """
    importance = importance_L.astype(np.float32)
    mean = importance.mean()
    if mean <= 0:
        return np.ones_like(importance)
    return floor + (1 - floor) * importance / mean


class TokenObjective(nn.Module):
    """What DeepSpeed wraps: a batch in, sums over its weighted tokens out.

    The logits are computed only in the columns where some sequence has a weight. Padding is on the
    right, where a causal network needs no mask.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: WeightedBatch) -> dict[str, Tensor]:
        """`loss` is Σ w·(−log p); `accuracy` is Σ w where the most likely token is the right one."""
        weights_BK = batch.weights_BT[:, 1:]
        columns_K = weights_BK.any(0).nonzero()[:, 0]
        logits_BKV = self.network(**batch.inputs, logits_to_keep=columns_K, use_cache=False).logits
        # Taking only the positions with a weight out of the rest would cost more than their loss does.
        logits_NV = logits_BKV.flatten(0, 1)
        targets_N = batch.inputs["input_ids"][:, 1:][:, columns_K].flatten()
        weights_N = weights_BK[:, columns_K].flatten()
        right_N = logits_NV.detach().argmax(-1) == targets_N
        return {
            "loss": weighted_nll(logits_NV, targets_N, weights_N),
            "accuracy": (weights_N * right_N).sum(),
        }
