"""New models with random weights: the starting point of the embedded model's recipe and of tests."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers.models.autoencoders.vq_model import VQModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from models.codec import ImageCodec
from models.token_vlm import TokenVLM
from models.tokens import ACTION, IMAGE, TokenLayout

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"


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
    codec: ImageCodec, tokenizer: PreTrainedTokenizerFast, hidden: int = 256, layers: int = 6, heads: int = 8
) -> TokenVLM:
    """A Qwen3 decoder over the tokenizer's tokens and the codec's codes.

    The codes' embeddings start as a random rotation of the codebook's own vectors, so that codes which
    look alike start alike.
    """
    first_code_id = len(tokenizer)
    length = codec.grid[0] * codec.grid[1]
    config = Qwen3Config(
        vocab_size=first_code_id + codec.num_codes,
        hidden_size=hidden,
        intermediate_size=hidden * 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        max_position_embeddings=4 * length + 256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.get_vocab()[BOS],
        eos_token_id=tokenizer.get_vocab()[EOS],
        pad_token_id=tokenizer.get_vocab()[PAD],
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
    )
    network = Qwen3ForCausalLM(config)
    embedding_VD = network.model.embed_tokens.weight
    codebook_KC = codec.network.quantize.embedding.weight
    with torch.no_grad():
        normal_KC = (codebook_KC - codebook_KC.mean(0)) / codebook_KC.std().clamp_min(1e-6)
        rotation_CD = torch.randn(codebook_KC.shape[1], hidden) / codebook_KC.shape[1] ** 0.5
        embedding_VD[first_code_id:] = normal_KC @ rotation_CD * config.initializer_range
    return TokenVLM(network, TokenLayout(tokenizer, first_code_id, codec.num_codes, length), codec)
