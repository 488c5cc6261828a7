"""Chat models with few random weights, written by transformers, with published templates."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPImageProcessorPil,
    GenerationConfig,
    Idefics3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)

from tests.tiny_families import DECODER, spread, tiny_tokenizer

CHATS = ("qwen", "qwen3", "smolvlm", "llava")
HIDDEN = 64
"""Two heads of 32, the smallest that vLLM computes on CPUs."""
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in c %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + QWEN3
SMOLVLM = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}"
    "{% if m['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}"
    "{% elif c['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
LLAVA = (
    "{% for m in messages %}{{ m['role'] | upper + ': ' }}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def tiny_chat(name: str, folder: Path) -> Path:
    """A chat model of one of `CHATS`."""
    torch.manual_seed(0)
    {"qwen": _qwen, "qwen3": _qwen3, "smolvlm": _smolvlm, "llava": _llava}[name](folder)
    return folder


def _text(tokenizer: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes = {"num_key_value_heads": 2, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    return DECODER | {"hidden_size": HIDDEN} | sizes | ends | more


def _tokenizer(special: Sequence[str], bos: str, eos: str, template: str) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer(["<pad>", *special], bos, eos)
    tokenizer.chat_template = template
    return tokenizer


def _write(folder: Path, network: Any, ends: int | list[int]) -> None:
    network = spread(network)
    for name, weight in network.named_parameters():
        if weight.ndim > 1 and "embed_tokens" not in name and "lm_head" not in name:
            torch.nn.init.normal_(weight, std=0.3)  # so that two images count beside many words
    network.generation_config = GenerationConfig(eos_token_id=ends, repetition_penalty=1.05)
    network.save_pretrained(folder)


def _qwen(folder: Path) -> None:
    rope = {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10_000.0}
    vision = {"window_size": 16, "fullatt_block_indexes": [1]}
    _write_qwen(
        folder, QWEN, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, vision, {"rope_parameters": rope}
    )


def _qwen3(folder: Path) -> None:
    rope = {"rope_type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    rope |= {"rope_theta": 10_000.0}
    text = {"rope_parameters": rope, "head_dim": 32, "max_position_embeddings": 32_768}
    vision = {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    _write_qwen(folder, QWEN3, Qwen3VLConfig, Qwen3VLForConditionalGeneration, vision, text)


def _write_qwen(
    folder: Path, template: str, config: Any, network: Any, vision: dict[str, Any], text: dict[str, Any]
) -> None:
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    marks += ["<|image_pad|>", "<|video_pad|>"]
    tokenizer = _tokenizer(marks, "<|endoftext|>", "<|im_end|>", template)
    ids = dict(zip(marks, tokenizer.convert_tokens_to_ids(marks), strict=True))
    vision |= {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 4,
        "out_hidden_size": HIDDEN,
    }
    made = config(
        text_config=_text(tokenizer, **text),
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    _write(folder, network(made), [ids["<|im_end|>"], ids["<|endoftext|>"]])
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=4, min_pixels=16 * 16, max_pixels=32 * 32).save_pretrained(folder)


def _smolvlm(folder: Path) -> None:
    marks = ["<|im_start|>", "<|endoftext|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>"]
    marks += ["<global-img>", *(f"<row_{row}_col_{col}>" for row in range(1, 3) for col in range(1, 3))]
    tokenizer = _tokenizer(marks, "<|im_start|>", "<end_of_utterance>", SMOLVLM)
    side = {"longest_edge": 32}
    images = SmolVLMImageProcessorPil(size=side, max_image_size=side)
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=SMOLVLM)
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = SmolVLMConfig(
        text_config=_text(tokenizer) | {"model_type": "llama"},
        vision_config=vision | {"image_size": 32, "patch_size": 8},
        scale_factor=2,
        image_token_id=processor.image_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    _write(folder, SmolVLMForConditionalGeneration(config), processor.tokenizer.eos_token_id)
    processor.save_pretrained(folder)
    _as_published(folder)


def _as_published(folder: Path) -> None:
    """Name SmolVLM's own processor, which has a part for videos and needs num2words."""
    for file in ("processor_config.json", "tokenizer_config.json"):
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(values | {"processor_class": "SmolVLMProcessor"}))
    video = {"video_processor_type": "SmolVLMVideoProcessor", "size": {"longest_edge": 32}}
    video |= {"max_image_size": {"longest_edge": 32}, "video_sampling": {"max_frames": 4, "fps": 1}}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video))


def _llava(folder: Path) -> None:
    tokenizer = _tokenizer(["<s>", "</s>", "<image>"], "<s>", "</s>", LLAVA)
    side = {"height": 16, "width": 16}
    images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=side)
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA,
    )
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        text_config=_text(tokenizer) | {"model_type": "llama"},
        vision_config=vision | {"model_type": "clip_vision_model", "image_size": 16, "patch_size": 8},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    _write(folder, LlavaForConditionalGeneration(config), tokenizer.eos_token_id)
    processor.save_pretrained(folder)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    # As published: transformers writes this level only of a checkpoint that it opened with it.
    named = {name.replace("vision_tower.", "vision_tower.vision_model."): tensors[name] for name in tensors}
    save_file(named, weights, {"format": "pt"})
