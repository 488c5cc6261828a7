"""New models with random weights: the starting point of the embedded model's recipe and of tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from diffusers.models.autoencoders.vq_model import VQModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from models.codec import ImageCodec
from models.token_vlm import TokenVLM
from models.tokens import ACTION, IMAGE, TokenLayout

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"
TEXT_POSITIONS = 64
"""For the words of an action and the marks around the images."""
IMAGE_SCALE = 0.3
"""Standard deviation of an image token's embedding; at the usual 0.02 the first steps of Adam undo it."""
MATCH_SCALE = 0.7
MATCHING_LAYERS = 3


def new_codec(
    resolution: int = 64,
    patch: int = 4,
    channels: tuple[int, ...] = (64, 128),
    num_codes: int = 1024,
    dims: int = 8,
) -> ImageCodec:
    """A small VQModel over patches of pixels; each step of `channels` but the first halves the grid."""
    depth = len(channels)
    network = VQModel(
        in_channels=3 * patch**2,
        out_channels=3 * patch**2,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=dims,
        sample_size=resolution,
        num_vq_embeddings=num_codes,
        norm_num_groups=8,
        vq_embed_dim=dims,
        mid_block_add_attention=False,
    )
    return ImageCodec(network)


def new_tokenizer(sentences: Iterable[str], vocabulary: int = 512) -> PreTrainedTokenizerFast:
    """A byte-level BPE that knows the words of `sentences` and falls back to bytes on any other."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS, IMAGE, ACTION],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        clean_up_tokenization_spaces=False,
    )


def new_token_vlm(
    codec: ImageCodec, tokenizer: PreTrainedTokenizerFast, hidden: int = 192, layers: int = 6, heads: int = 6
) -> TokenVLM:
    """An OPT decoder over the tokenizer's tokens and the codec's codes that can tell places and looks apart.

    Half of an embedding holds the look of a code, a random rotation of the codebook's vector, so that codes
    which look alike start alike. The other half holds the place, row and column, alike in both images. The
    heads of the first layers start by finding what has the same place, or the same look. From plain
    random weights such a model takes many times as long to see that images matter at all.
    """
    first_code_id = len(tokenizer)
    layout = TokenLayout(tokenizer, first_code_id, codec.num_codes, codec.grid[0] * codec.grid[1])
    config = OPTConfig(
        vocab_size=first_code_id + codec.num_codes,
        hidden_size=hidden,
        word_embed_proj_dim=hidden,
        ffn_dim=hidden * 4,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=2 * layout.codes_per_image + TEXT_POSITIONS,
        dropout=0.0,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.get_vocab()[BOS],
        eos_token_id=tokenizer.get_vocab()[EOS],
        pad_token_id=tokenizer.get_vocab()[PAD],
    )
    network = OPTForCausalLM(config)
    with torch.no_grad():
        _embed_looks(network.model.decoder.embed_tokens.weight[first_code_id:], codec)
        _embed_places(network.model.decoder.embed_positions, layout, codec.grid)
        for layer in network.model.decoder.layers[:MATCHING_LAYERS]:
            _match(layer.self_attn, heads)
    return TokenVLM(network, layout, codec)


def _embed_looks(rows_KD: torch.Tensor, codec: ImageCodec) -> None:
    codebook_KC = codec.network.quantize.embedding.weight
    normal_KC = (codebook_KC - codebook_KC.mean(0)) / codebook_KC.std().clamp_min(1e-6)
    channels, half = codebook_KC.shape[1], rows_KD.shape[1] // 2
    rows_KD[:, :half] = 0
    rows_KD[:, half:] = normal_KC @ torch.randn(channels, half) / channels**0.5 * IMAGE_SCALE


def _embed_places(embedding: Any, layout: TokenLayout, grid: tuple[int, int]) -> None:
    """Sines of row and column at wavelengths from two cells to some twenty."""
    positions_TD = embedding.weight[embedding.offset :]
    half = positions_TD.shape[1] // 2
    positions_TD.copy_(torch.randn_like(positions_TD) * IMAGE_SCALE / 6)
    frequencies = 2 * torch.pi / 2 ** torch.linspace(1.2, 4.5, half // 4)
    row_L, column_L = torch.meshgrid(*(torch.arange(side) for side in grid), indexing="ij")
    phases = [place.flatten()[:, None] * frequencies for place in (row_L, column_L)]
    place_LD = torch.cat([wave for phase in phases for wave in (phase.sin(), phase.cos())], dim=1)
    for start in layout.image_starts:
        image_LD = positions_TD[start : start + layout.codes_per_image]
        image_LD[:, : place_LD.shape[1]] += place_LD * IMAGE_SCALE
        image_LD += torch.randn(positions_TD.shape[1]) * IMAGE_SCALE / 3  # which image it is


def _match(attention: Any, heads: int) -> None:
    """Query and key alike: even heads see places, odd ones looks."""
    hidden = attention.q_proj.weight.shape[1]
    projection_HCD = torch.randn(heads, hidden // heads, hidden) * MATCH_SCALE / hidden**0.5
    projection_HCD[0::2, :, hidden // 2 :] = 0
    projection_HCD[1::2, :, : hidden // 2] = 0
    for layer in (attention.q_proj, attention.k_proj):
        layer.weight.copy_(projection_HCD.flatten(0, 1))
