"""A unified model with random weights, a few thousand of them."""

import numpy as np
import torch
from diffusers.models.autoencoders.vq_model import VQModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kinescribe.models.codec import ImageCodec
from kinescribe.models.token_vlm import TokenVLM
from kinescribe.models.tokens import ACTION, IMAGE, TokenLayout

NUM_CODES = 16
WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", IMAGE, ACTION, "move", "the", "red", "ball", "left", "right"]


def tiny_vlm(seed: int = 69) -> TokenVLM:
    """32×32 images as 4×4 codes of 16, and one transformer layer.

    By default one whose greedy actions have words, and are not the same for all pictures.
    """
    torch.manual_seed(seed)
    codec = ImageCodec(_codec())
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(WORDS) + NUM_CODES,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    layout = TokenLayout(tokenizer, len(WORDS) + np.arange(NUM_CODES), codec.grid)
    return TokenVLM(LlamaForCausalLM(config), layout, codec)


def _codec() -> VQModel:
    blocks = 4
    return VQModel(
        sample_size=32,
        block_out_channels=(8,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1,
        latent_channels=4,
        vq_embed_dim=4,
        num_vq_embeddings=NUM_CODES,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=[IMAGE, ACTION],
    )
