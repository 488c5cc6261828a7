"""CLIP, a DINO and a text encoder with random weights, as their libraries save them."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "move", "the", "red", "ball", "left", "right"]
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_clip(folder: Path) -> Path:
    torch.manual_seed(0)
    text = SMALL | {"vocab_size": len(WORDS), "max_position_embeddings": 8, "eos_token_id": 2}
    config = CLIPConfig(
        text_config=text, vision_config=SMALL | {"image_size": 32, "patch_size": 8}, projection_dim=16
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    _tokenizer().save_pretrained(folder)
    return folder


def write_dino(folder: Path) -> Path:
    torch.manual_seed(0)
    ViTModel(ViTConfig(**SMALL, image_size=32, patch_size=8)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def write_text_encoder(folder: Path) -> Path:
    torch.manual_seed(0)
    BertModel(BertConfig(**SMALL, vocab_size=len(WORDS), max_position_embeddings=16)).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, cls_token="<bos>", sep_token="<eos>", **special)
