"""The likeliest of many given actions, whose common prompt is computed once.

Shapes: A actions, B of them at a time, T tokens of the prompt, K of the longest action, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from kinescribe.models.dynamics import Description

CPU_ROOM = 1 << 30
"""Bytes for copies of the prompt's keys and values."""
GPU_ROOM = 0.5
"""The same as a share of the GPU's free memory."""


def completion_logprobs(
    network: Any, prompt: Mapping[str, torch.Tensor], completions: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """log p(completion | prompt) of each of the A completions, summed over its tokens, shape (A,).

    The prompt is the network's input for one sequence. As many completions share a pass as there is memory
    for copies of the prompt's keys and values.
    """
    cache = DynamicCache(config=network.config.get_text_config())
    output = network(**prompt, past_key_values=cache, use_cache=True, logits_to_keep=1)
    first_V = output.logits[0, -1].float().log_softmax(-1)
    num_prompt = prompt["input_ids"].shape[1]
    size = _room(network.device, cache)
    order = sorted(range(len(completions)), key=lambda place: len(completions[place]), reverse=True)
    sums = np.empty(len(completions))
    for start in range(0, len(order), size):
        places = order[start : start + size]
        rows = [torch.from_numpy(completions[place]).to(network.device) for place in places]
        ids_BK = pad_sequence(rows, batch_first=True)
        copies: Any = copy.deepcopy(cache)
        # The layers of linear attention have no `batch_repeat_interleave`.
        copies.reorder_cache(torch.zeros(len(places), dtype=torch.int64))
        logits_BKV = network(
            input_ids=ids_BK,
            position_ids=_positions(network, num_prompt, ids_BK),
            attention_mask=torch.ones(len(places), num_prompt + ids_BK.shape[1], device=ids_BK.device).long(),
            past_key_values=copies,
            use_cache=True,
        ).logits
        # What is padded comes after the tokens that count, which therefore don't see it.
        following_BK = logits_BKV[:, :-1].float().log_softmax(-1).gather(-1, ids_BK[:, 1:, None])[..., 0]
        lengths = torch.tensor([len(completions[place]) - 1 for place in places], device=ids_BK.device)
        counts_BK = torch.arange(following_BK.shape[1], device=ids_BK.device) < lengths[:, None]
        sums[places] = (first_V[ids_BK[:, 0]] + (following_BK * counts_BK).sum(-1)).cpu().numpy()
    return sums


def _positions(network: Any, num_prompt: int, ids_BK: torch.Tensor) -> torch.Tensor:
    """The positions of tokens that follow the prompt, shape (B, K).

    Of shape (3, B, K) in networks that count images in three dimensions, as Qwen's do: they remember by how
    much the prompt's last position differs from its length.
    """
    positions_BK = num_prompt + torch.arange(ids_BK.shape[1], device=ids_BK.device).expand(ids_BK.shape)
    deltas = getattr(network.model, "rope_deltas", None)
    return positions_BK if deltas is None else (positions_BK + deltas).expand(3, *ids_BK.shape)


def _room(device: torch.device, cache: Any) -> int:
    """For how many copies of the cache there is room, at least one."""
    each = sum(
        value.nbytes
        for layer in cache.layers
        for value in vars(layer).values()
        if isinstance(value, torch.Tensor)
    )
    room = GPU_ROOM * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else CPU_ROOM
    return max(1, int(room // max(1, each)))


def likeliest(
    actions: Sequence[str], logprobs_A: NDArray[np.float64], num_tokens: Sequence[int]
) -> Description:
    """The likeliest action, with its posterior over all of them (a uniform prior) and the runner-up."""
    if not np.isfinite(logprobs_A).all():
        return Description(actions[0], math.nan, num_tokens[0], "stop")
    first, second = (int(place) for place in np.argsort(-logprobs_A, kind="stable")[:2])
    probability = 1 / np.exp(logprobs_A - logprobs_A[first]).sum()
    return Description(
        actions[first],
        float(logprobs_A[first]),
        num_tokens[first],
        "stop",
        float(probability),
        actions[second],
    )
