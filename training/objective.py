"""The weighted next-token objective (arXiv:2506.06006) and the module that computes it.

Knows tensors and a causal network; nothing of datasets, ranks or optimizers. Shapes: B sequences, T
tokens, K columns in which any sequence has a weight, N = B·K, V vocabulary, L tokens of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn


class WeightedBatch(Protocol):
    """Inputs of a network for B sequences, with the weight of each token in the loss."""

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """The arguments of the network by name, including `input_ids` (B, T)."""
        ...

    @property
    def weights_BT(self) -> Tensor:
        """float32, 0 on the prompt and on padding."""
        ...


class TokenBatch(NamedTuple):
    """Sequences padded on the right, with the weight of each token in the loss."""

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
        """Σ w, this batch's part of the divisor of its step's sums."""
        return float(self.weights_BT[:, 1:].sum())


def weighted_nll(logits_NV: Tensor, targets_N: Tensor, weights_N: Tensor) -> Tensor:
    """−Σ_n w_n · log p(target_n): the numerator of  min_θ −Σ w·log p / Σ w  (arXiv:2506.06006)."""
    nll_N = F.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    return (weights_N * nll_N).sum()


def image_weights(importance_L: NDArray[Any], floor: float) -> NDArray[np.float32]:
    """The weights of an image's tokens: mean 1, at least `floor`, and above it proportional to `importance`.

    If the image equals its source, the importance is 0 everywhere and all weights are 1.
    """
    importance = importance_L.astype(np.float32)
    mean = importance.mean()
    if mean <= 0:
        return np.ones_like(importance)
    return floor + (1 - floor) * importance / mean


class TokenObjective(nn.Module):
    """The module that DeepSpeed wraps: takes a batch, returns sums over its weighted tokens.

    Logits are only computed in the columns in which any sequence has a weight. Padding is on the right, where
    a causal network needs no mask.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: WeightedBatch) -> dict[str, Tensor]:
        """`loss` is Σ w·(−log p); `accuracy` is Σ w over the tokens that are predicted correctly."""
        weights_BK = batch.weights_BT[:, 1:]
        columns_K = weights_BK.any(0).nonzero()[:, 0]
        logits_BKV = self.network(**batch.inputs, logits_to_keep=columns_K, use_cache=False).logits
        if logits_BKV.shape[1] > len(columns_K):  # not every network computes only those that are asked for
            logits_BKV = logits_BKV[:, columns_K]
        # Gathering only the positions with a weight would cost more than computing the loss of all.
        logits_NV = logits_BKV.flatten(0, 1)
        targets_N = batch.inputs["input_ids"][:, 1:][:, columns_K].flatten()
        weights_N = weights_BK[:, columns_K].flatten()
        right_N = logits_NV.detach().argmax(-1) == targets_N
        return {
            "loss": weighted_nll(logits_NV, targets_N, weights_N),
            "accuracy": (weights_N * right_N).sum(),
        }
