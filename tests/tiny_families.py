"""Checkpoints of each model family with few random weights, written by the libraries themselves.

Only sizes differ from what is published: names of tensors and tokens, files and configuration are the same.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    ChameleonConfig,
    ChameleonForConditionalGeneration,
    ChameleonVQVAE,
    ChameleonVQVAEConfig,
    Emu3Config,
    Emu3ForConditionalGeneration,
    Emu3ImageProcessor,
    GemmaConfig,
    GemmaForCausalLM,
    PreTrainedTokenizerFast,
)

from kinescribe.models.codec_conversion import published_codec

SENTENCES = ("move the red ball left", "move the red ball right", "pan left", "make the blue box bigger")
NUM_CODES, SIDE = 16, 4
CHANNELS = 32  # the fewest that 32 groups can norm
DECODER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VQGAN: dict[str, Any] = {
    "embed_dim": 8,
    "num_embeddings": NUM_CODES,
    "latent_channels": 8,
    "resolution": 4 * SIDE,
    "base_channels": CHANNELS,
    "channel_multiplier": [1, 2, 1],
    "num_res_blocks": 1,
}
NAMES = ("chameleon", "emu3", "liquid")


def tiny_family(name: str, folder: Path) -> Path:
    """A model of the family in its published form, with the converted codec."""
    torch.manual_seed(0)
    write = {"chameleon": write_chameleon, "emu3": write_emu3, "liquid": write_liquid}[name]
    source = write(folder)
    published_codec(source).save(folder / "codec")
    return folder


def write_chameleon(folder: Path) -> Path:
    """Chameleon for transformers, which has no image decoder; returns Meta's vqgan.ckpt."""
    # Tokens of codes in no order, and between those of text.
    codes = ["IMGIMG" + "".join(chr(ord("A") + int(d)) for d in str(code)) + "Z" for code in range(NUM_CODES)]
    codes = codes[7:] + codes[:7]
    tokenizer = tiny_tokenizer(
        ["<s>", "<pad>", "</s>", "<unk>", *codes, "<racm3:break>", "<eoss>", "<image>", "<reserved08706>"],
        "<s>",
        "</s>",
    )
    config = ChameleonConfig(
        vocab_size=len(tokenizer),
        vocabulary_map=tokenizer.get_vocab(),
        vq_config=VQGAN,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        num_key_value_heads=2,
        **DECODER,
    )
    network = spread(ChameleonForConditionalGeneration(config))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return write_vqgan(folder, network.model.vqmodel.state_dict())


def write_emu3(folder: Path) -> Path:
    codes = [f"<|visual token {code:06d}|>" for code in range(NUM_CODES)]
    marks = [
        "<|image start|>",
        "<|image token|>",
        "<|image end|>",
        "<|extra_200|>",
        "<|extra_201|>",
        "<image>",
    ]
    tokenizer = tiny_tokenizer(
        ["<|pad|>", "<|extra_203|>", "<|extra_204|>", *marks, *codes],
        "<|extra_203|>",
        "<|extra_204|>",
        "<|pad|>",
    )
    text = DECODER | {"num_key_value_heads": 2, "vocab_size": len(tokenizer)}
    text |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "attention_dropout": 0.0}
    video = {
        "codebook_size": NUM_CODES,
        "base_channels": CHANNELS,
        "channel_multiplier": [1, 2, 1],
        "num_res_blocks": 1,
        "attn_resolutions": [2],
        "hidden_size": CHANNELS,
    }
    config = Emu3Config(text_config=text, vq_config=video, vocabulary_map=tokenizer.get_vocab())
    spread(Emu3ForConditionalGeneration(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Emu3ImageProcessor(min_pixels=(4 * SIDE) ** 2).save_pretrained(folder)
    return folder


def write_liquid(folder: Path) -> Path:
    """Gemma with more tokens than its tokenizer knows; returns Meta's vqgan.ckpt."""
    marks = ["<boi>", "<eoi>", "<start_of_turn>", "<end_of_turn>"]
    tokenizer = tiny_tokenizer(["<pad>", "<eos>", "<bos>", "<unk>", *marks], "<bos>", "<eos>")
    config = GemmaConfig(
        vocab_size=len(tokenizer) + NUM_CODES,
        num_key_value_heads=1,
        head_dim=16,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        **DECODER,
    )
    spread(GemmaForCausalLM(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return write_vqgan(folder, ChameleonVQVAE(ChameleonVQVAEConfig(**VQGAN)).state_dict())


def write_vqgan(folder: Path, encoder: dict[str, torch.Tensor]) -> Path:
    """Meta's vqgan.ckpt and vqgan.yaml: encoder, decoder, and tensors of their training."""
    tensors = encoder | {f"decoder.{name}": tensor for name, tensor in decoder_tensors().items()}
    path = folder / "vqgan.ckpt"
    torch.save({"state_dict": tensors | {"loss.logvar": torch.zeros(1)}}, path)
    network = {
        "double_z": False,
        "z_channels": VQGAN["latent_channels"],
        "resolution": VQGAN["resolution"],
        "in_channels": 3,
        "out_ch": 3,
        "ch": CHANNELS,
        "ch_mult": VQGAN["channel_multiplier"],
        "num_res_blocks": VQGAN["num_res_blocks"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    params = {"embed_dim": VQGAN["embed_dim"], "n_embed": NUM_CODES, "ddconfig": network}
    path.with_suffix(".yaml").write_text(yaml.safe_dump({"model": {"params": params}}))
    return path


def decoder_tensors() -> dict[str, torch.Tensor]:
    """The tensors of a decoder by Meta's names: the encoder mirrored, with one more residual block per
    level."""
    tensors: dict[str, torch.Tensor] = {}

    def layer(name: str, *shape: int) -> None:
        tensors[f"{name}.weight"] = torch.randn(shape) / max(1, torch.Size(shape[1:]).numel()) ** 0.5
        tensors[f"{name}.bias"] = torch.randn(shape[0]) * 0.1

    def block(name: str, given: int, made: int) -> None:
        layer(f"{name}.norm1", given)
        layer(f"{name}.conv1", made, given, 3, 3)
        layer(f"{name}.norm2", made)
        layer(f"{name}.conv2", made, made, 3, 3)
        if given != made:
            layer(f"{name}.nin_shortcut", made, given, 1, 1)

    widths = [CHANNELS * factor for factor in VQGAN["channel_multiplier"]]
    width = widths[-1]
    layer("conv_in", width, VQGAN["latent_channels"], 3, 3)
    for name in ("mid.block_1", "mid.block_2"):
        block(name, width, width)
    layer("mid.attn_1.norm", width)
    for name in ("q", "k", "v", "proj_out"):
        layer(f"mid.attn_1.{name}", width, width, 1, 1)
    for level in reversed(range(len(widths))):
        for index in range(VQGAN["num_res_blocks"] + 1):
            block(f"up.{level}.block.{index}", width, widths[level])
            width = widths[level]
        if level:
            layer(f"up.{level}.upsample.conv", width, width, 3, 3)
    layer("norm_out", width)
    layer("conv_out", 3, width, 3, 3)
    return tensors


def keep_decoder(folder: Path) -> None:
    """Put the decoder into the checkpoint, as some conversions of Anole do, and split the file in two."""
    tensors = load_file(folder / "model.safetensors")
    tensors |= {f"model.vqmodel.decoder.{name}": tensor for name, tensor in decoder_tensors().items()}
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name].contiguous() for name in part}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def tiny_tokenizer(special: Sequence[str], bos: str, eos: str, pad: str = "<pad>") -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[*special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {sentence}" for sentence in SENTENCES], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        clean_up_tokenization_spaces=False,
    )


def spread(network: Any) -> Any:
    """Random weights far from uniform, so that an error of one position changes the likelihoods."""
    torch.nn.init.normal_(network.get_input_embeddings().weight, std=0.5)
    torch.nn.init.normal_(network.get_output_embeddings().weight, std=0.3)
    return network
