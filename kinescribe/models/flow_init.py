"""Initialises the first layer of a new decoder as soft optical flow between its two images.

Knows the layout of a dynamics prompt and OPT's weights; nothing of training. Shapes: V vocabulary, K codes, C
channels of a code, T positions, L tokens of an image, D width of the decoder. The first half of the width
encodes the place of a token and the second half its look.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import OPTForCausalLM

from kinescribe.models.codec import ImageCodec
from kinescribe.models.tokens import TokenLayout


class Match(NamedTuple):
    """The initial attention logits of a head: β·cos(looks) − γ·|distance in cells|²."""

    look: float
    distance: float


HEADS = (Match(0, 3), Match(8, 0.3), Match(10, 0.1), Match(10, 0.02), Match(20, 0.3))
SCALE = 0.25
"""Standard deviation of an image token's embedding. With the usual 0.02, Adam undoes it within some steps."""
COORDINATES = 4
"""Row, column, their sum of squares, and the image."""
COORDINATE_SCALE = 1.5
"""The scale of the coordinates in an embedding, in standard deviations of the whole."""
LOOK_SHARE = 1.4
"""The share of the look in an embedding's variance, of 2 for both halves together."""
TOWARDS_SOURCE = 3.0
"""Raises the logits of the source's tokens and lowers those of the target's by this."""


@torch.no_grad()
def start_as_flow(network: OPTForCausalLM, layout: TokenLayout, codec: ImageCodec) -> None:
    """Set the embeddings of codes and places, and the heads of `HEADS` in the first layer."""
    decoder: Any = network.model.decoder
    tokens_VD, places_TD = decoder.embed_tokens.weight, _positions(decoder)
    tokens_VD[: layout.code_ids[0]].normal_(std=SCALE / 2)
    tokens_VD[: layout.code_ids[0], : tokens_VD.shape[1] // 2] = 0
    codebook_KC = codec.network.quantize.embedding.weight
    directions_CH = _look_directions(tokens_VD.shape[1] // 2, codebook_KC.shape[1])
    tokens_VD[layout.code_ids] = _looks(codebook_KC, directions_CH) * SCALE
    places_TD.normal_(std=SCALE / 5)
    first = _embed_places(places_TD, layout, codec.grid)
    attention = decoder.layers[0].self_attn
    for index, match in enumerate(HEADS[: attention.num_heads]):
        _set_head(attention, index, match, directions_CH[: codebook_KC.shape[1]], first, codec.grid[0])


def _positions(decoder: Any) -> Tensor:
    return decoder.embed_positions.weight[decoder.embed_positions.offset :]


def _look_directions(half: int, channels: int) -> Tensor:
    """Orthonormal rows: one set for a code's direction, one for its vector. Shape (2C, D/2)."""
    return torch.linalg.qr(torch.randn(half, 2 * channels))[0].T


def _looks(codebook_KC: Tensor, directions_CH: Tensor) -> Tensor:
    """The looks of all codes, shape (K, D), zero in the half of the places."""
    channels, half = codebook_KC.shape[1], directions_CH.shape[1]
    centred_KC = codebook_KC - codebook_KC.mean(0)
    length_K1 = centred_KC.norm(dim=1, keepdim=True)
    unit_KC = centred_KC / length_K1.clamp_min(1e-6)
    squashed_KC = unit_KC * length_K1 / (length_K1 + length_K1.mean())
    looks_KH = unit_KC @ directions_CH[:channels] + squashed_KC @ directions_CH[channels:]
    # All of one length, since the layer norms of the decoder make them so anyway.
    looks_KH = torch.nn.functional.normalize(looks_KH) * (LOOK_SHARE * half) ** 0.5
    return torch.cat([torch.zeros_like(looks_KH), looks_KH], dim=1)


def _embed_places(places_TD: Tensor, layout: TokenLayout, grid: tuple[int, int]) -> int:
    """Write waves over rows and columns, then the four coordinates; returns the dimension at which these
    start."""
    half = places_TD.shape[1] // 2
    num_waves = (half - 4) // 4
    frequencies_W = 2 * math.pi / 2 ** torch.linspace(1.2, 4.5, num_waves)
    rows_L, columns_L = (c.flatten() for c in torch.meshgrid(*map(torch.arange, grid), indexing="ij"))
    phases = [coordinate[:, None] * frequencies_W for coordinate in (rows_L, columns_L)]
    waves = [wave for phase in phases for wave in (phase.sin(), phase.cos())]
    y_L, x_L = (2 * c / (side - 1) - 1 for c, side in zip((rows_L, columns_L), grid, strict=True))
    square_L = y_L**2 + x_L**2
    coordinates = torch.stack([y_L, x_L, square_L - square_L.mean()], dim=1) * COORDINATE_SCALE
    place_LP = torch.cat(
        [*(wave * ((1.9 - LOOK_SHARE) / 2 * half / num_waves) ** 0.5 for wave in waves), coordinates], dim=1
    )
    first = 4 * num_waves
    places_TD[:, first:half] = 0  # tokens outside of images have no place
    for start, sign in zip(layout.image_starts, (1, -1), strict=True):
        image_LD = places_TD[start : start + layout.codes_per_image]
        image_LD.zero_()
        image_LD[:, : first + 3] = place_LP * SCALE
        image_LD[:, first + 3] = sign * COORDINATE_SCALE * SCALE
    return first


def _set_head(attention: Any, index: int, match: Match, directions_CH: Tensor, first: int, side: int) -> None:
    """Set one head. The rows of query and key are: looks, row, column, sum of squares, image."""
    channels, half = directions_CH.shape
    width = attention.head_dim
    rows = slice(index * width, (index + 1) * width)
    temperature = width**0.5
    cells = (side - 1) / 2
    key = torch.zeros(width, 2 * half)
    key[:channels, half:] = (match.look * temperature / (LOOK_SHARE * half)) ** 0.5 * directions_CH
    for coordinate in range(2):
        key[channels + coordinate, first + coordinate] = (
            2 * match.distance * cells**2 * temperature
        ) ** 0.5 / COORDINATE_SCALE
    attention.q_proj.weight[rows] = key
    key[channels + 2, first + 2] = key[channels + 3, first + 3] = 1
    attention.k_proj.weight[rows] = key
    bias = torch.zeros(width)
    bias[channels + 2] = -match.distance * cells**2 * temperature / COORDINATE_SCALE
    bias[channels + 3] = TOWARDS_SOURCE * temperature / COORDINATE_SCALE
    attention.q_proj.bias[rows] = bias
    if match.look:  # its values carry the coordinates of the match
        values = attention.v_proj.weight[rows]
        values[:2] = 0
        values[0, first] = values[1, first + 1] = 1
