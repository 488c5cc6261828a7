"""Logits processors: which tokens may be drawn, and draws that depend on nothing but their own seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor


class AllowedTokens(LogitsProcessor):
    """Only token ids in [start, stop) can be drawn."""

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, V) with everything outside the range at -inf."""
        masked_BV = torch.full_like(scores, -torch.inf)
        masked_BV[:, self.start : self.stop] = scores[:, self.start : self.stop]
        return masked_BV


class SeededSampling(LogitsProcessor):
    """Sampling by the Gumbel-max trick: the argmax of logits/temperature plus seeded Gumbel noise.

    One generator for each row, so that a row's sample is the same in any batch; used with greedy search.
    """

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        self.generators = [torch.Generator().manual_seed(seed % 2**63) for seed in seeds]
        self.temperature = temperature

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, V) whose argmax is a sample of softmax(scores / temperature)."""
        num_tokens = scores.shape[-1]
        noise_BV = torch.stack([torch.rand(num_tokens, generator=g) for g in self.generators])
        gumbel_BV = -torch.log(-torch.log(noise_BV.clamp_min(1e-20)))
        return scores / self.temperature + gumbel_BV.to(scores.device)
