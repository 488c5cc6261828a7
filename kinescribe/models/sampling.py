"""Sampling: the allowed tokens, samples that depend only on their own seed, and their descriptions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    LogitsProcessor,
    PreTrainedTokenizerFast,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from kinescribe.models.dynamics import Description
from kinescribe.schemas.sampling import Sampling


class AllowedTokens(LogitsProcessor):
    """Allows only the token ids of `allowed`."""

    def __init__(self, allowed: NDArray[np.int64], device: torch.device) -> None:
        self.allowed = torch.from_numpy(allowed).to(device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, V) with all other tokens at -inf."""
        masked_BV = torch.full_like(scores, -torch.inf)
        masked_BV[:, self.allowed] = scores[:, self.allowed]
        return masked_BV


class RowEnds(LogitsProcessor):
    """Forces the token `row_end` after every `width` tokens that follow a prompt of `prompt_length`."""

    def __init__(self, row_end: int, width: int, prompt_length: int) -> None:
        self.row_end = row_end
        self.width = width
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, V); at the end of a row, all tokens except its mark are at -inf."""
        if (input_ids.shape[1] - self.prompt_length + 1) % (self.width + 1):
            return scores
        ended_BV = torch.full_like(scores, -torch.inf)
        ended_BV[:, self.row_end] = 0
        return ended_BV


def sample_seeds(seed: int, num_samples: int) -> list[int]:
    """The seeds of the samples; that of sample i doesn't depend on `num_samples`."""
    return [(seed * 1_000_003 + index) % 2**63 for index in range(num_samples)]


class SeededSampling(LogitsProcessor):
    """Sampling by the Gumbel-max trick: the argmax of logits/temperature plus seeded Gumbel noise.

    Each row has its own generator, so that its sample doesn't depend on the batch. For use with greedy
    search.
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


def drawing(sampling: Sampling, seeds: Sequence[int] | None, num: int) -> list[LogitsProcessor]:
    """What comes between the scores of `num` sequences and greedy search."""
    processors: list[LogitsProcessor] = []
    if sampling.repetition_penalty is not None:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature > 0:
        assert seeds is not None
        assert len(seeds) == num
        processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if sampling.top_k is not None:
            processors.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p is not None:
            processors.append(TopPLogitsWarper(sampling.top_p))
        processors.append(SeededSampling(seeds, 1.0))
    return processors


def descriptions(
    tokenizer: PreTrainedTokenizerFast,
    ids_BT: torch.Tensor,
    logits: Sequence[torch.Tensor],
    ends: Sequence[int],
) -> list[Description]:
    """Descriptions from generated tokens and the logits (B, V) of each step. Any token of `ends` closes
    one."""
    steps = zip(logits, ids_BT.unbind(1), strict=True)
    logprobs = [
        logits_BV.float().log_softmax(-1).gather(-1, ids_B[:, None])[:, 0] for logits_BV, ids_B in steps
    ]
    rows = zip(ids_BT.tolist(), torch.stack(logprobs, 1).tolist(), strict=True)
    return [_description(tokenizer, *row, ends) for row in rows]


def _description(
    tokenizer: PreTrainedTokenizerFast, ids: list[int], logprobs: list[float], ends: Sequence[int]
) -> Description:
    stop = next((place for place, token_id in enumerate(ids) if token_id in ends), None)
    num_tokens = len(ids) if stop is None else stop + 1
    text = tokenizer.decode(ids[:stop], skip_special_tokens=True)
    assert isinstance(text, str)
    return Description(
        text.strip(), sum(logprobs[:num_tokens]), num_tokens, "length" if stop is None else "stop"
    )
