"""New models with random weights, for training from scratch and for tests."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from kinescribe.models import flow_init
from kinescribe.models.codec import ImageCodec, VQModel
from kinescribe.models.token_vlm import TokenVLM
from kinescribe.models.tokens import ACTION, IMAGE, TokenLayout
from kinescribe.schemas.errors import ConfigError

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"
TEXT_POSITIONS = 64
"""Positions for the words of an action and the marks around the images."""


def new_codec(
    resolution: int = 64,
    patch: int = 4,
    channels: tuple[int, ...] = (64, 128),
    num_codes: int = 1024,
    dims: int = 8,
) -> ImageCodec:
    """A small VQModel over patches of pixels. Each step of `channels` after the first halves the grid."""
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
    """A byte-level BPE trained on `sentences`; other words fall back to bytes."""
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
    """An OPT decoder over text tokens and the codec's codes, with its first layer initialised as optical
    flow.

    An embedding encodes the look of a code, from its codebook vector, and its place, the same in both images.
    The first heads of the first layer start with the attention logits β·cos(looks) − γ·|distance in cells|²
    towards the source's tokens: with β = 0 they attend to the same place, otherwise to the same look nearby.
    Everything else is random, and everything is trained. Raises ConfigError if the heads are too narrow.
    """
    dims: int = codec.network.config["vq_embed_dim"]
    head_dim = dims + flow_init.COORDINATES
    if hidden // heads < head_dim or hidden < 4 * dims:
        raise ConfigError(
            f"model.hidden: {heads} heads over {hidden} dimensions are too narrow for codes of {dims}; a "
            f"head needs {head_dim} and the whole {4 * dims}: take a larger hidden or fewer heads"
        )
    first_code_id = len(tokenizer)
    layout = TokenLayout(tokenizer, first_code_id + np.arange(codec.num_codes), codec.grid, aligned=True)
    config = OPTConfig(
        vocab_size=first_code_id + codec.num_codes,
        hidden_size=hidden,
        word_embed_proj_dim=hidden,
        ffn_dim=hidden * 4,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=2 * layout.codes_per_image + TEXT_POSITIONS,
        dropout=0.0,
        init_std=0.7 / hidden**0.5,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.get_vocab()[BOS],
        eos_token_id=tokenizer.get_vocab()[EOS],
        pad_token_id=tokenizer.get_vocab()[PAD],
    )
    network = OPTForCausalLM(config)
    flow_init.start_as_flow(network, layout, codec)
    return TokenVLM(network, layout, codec)
