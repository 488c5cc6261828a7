"""Chat models of further architectures with few random weights, with files as they are published.

The files of processors are written here, since some of their classes need torchvision to be made.
"""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from tests.tiny_chat import QWEN3
from tests.tiny_families import DECODER, spread, tiny_tokenizer

WITHOUT_TORCHVISION = ("gemma4", "minicpmv")
"""Their image processors need only Pillow."""
WITH_TORCHVISION = ("mistral3", "llama4", "lfm2")
TEMPLATE_LESS = ("paligemma",)
ARCHITECTURES = (*WITHOUT_TORCHVISION, *WITH_TORCHVISION, *TEMPLATE_LESS)
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}

GEMMA4 = (
    "{{ bos_token }}{% for m in messages %}<|turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}\n\n<|image|>\n\n"
    "{% elif c['type'] == 'text' %}{{ c['text'] | trim }}{% endif %}{% endfor %}<turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)
MISTRAL3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}[SYSTEM_PROMPT]{{ m['content'][0]['text'] }}[/SYSTEM_PROMPT]"
    "{% elif m['role'] == 'user' %}[INST]{% for c in m['content'] %}"
    "{% if c['type'] == 'text' %}{{ c['text'] }}{% elif c['type'] == 'image' %}[IMG]{% endif %}"
    "{% endfor %}[/INST]{% else %}{{ m['content'][0]['text'] + eos_token }}{% endif %}{% endfor %}"
)
LLAMA4 = (
    "{{ bos_token }}{% for m in messages %}<|header_start|>{{ m['role'] }}<|header_end|>\n\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|image|>"
    "{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|header_start|>assistant<|header_end|>\n\n{% endif %}"
)
LFM2 = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>"
    "{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_architecture(name: str, folder: Path) -> Path:
    """A chat model of one of `ARCHITECTURES`."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    write = {"gemma4": _gemma4, "minicpmv": _minicpmv, "paligemma": _paligemma}
    write |= {"mistral3": _mistral3, "llama4": _llama4, "lfm2": _lfm2}
    write[name](folder)
    return folder


class _Words:
    """A tokenizer with the marks of an architecture, some of which its processor knows by names."""

    def __init__(self, marks: list[str], bos: str, eos: str, pad: str, **named: str) -> None:
        marks = [*marks, *(mark for mark in named.values() if mark not in marks)]
        self.tokenizer: PreTrainedTokenizerFast = tiny_tokenizer(marks, bos, eos, pad)
        self.named = named
        self.bos, self.eos, self.pad = (self.id(mark) for mark in (bos, eos, pad))

    def id(self, mark: str) -> int:
        return self.tokenizer.convert_tokens_to_ids(mark)

    def text(self, **more: Any) -> dict[str, Any]:
        """The configuration of a small decoder."""
        ends = {"bos_token_id": self.bos, "eos_token_id": self.eos, "pad_token_id": self.pad}
        return DECODER | {"num_key_value_heads": 2, "vocab_size": len(self.tokenizer)} | ends | more

    def write(
        self,
        folder: Path,
        config: dict[str, Any],
        processor: tuple[str, dict[str, Any]],
        images: tuple[str, dict[str, Any]],
        template: str | None,
    ) -> None:
        made = AutoConfig.for_model(**config)
        network = spread(AutoModelForImageTextToText.from_config(made))
        for name, weight in network.named_parameters():
            if weight.ndim > 1 and "embed_tokens" not in name and "lm_head" not in name:
                torch.nn.init.normal_(weight, std=0.3)  # so that two images count beside many words
        network.generation_config = GenerationConfig(eos_token_id=self.eos)
        network.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        _add(folder / "tokenizer_config.json", {"extra_special_tokens": self.named})
        _add(folder / "processor_config.json", {"processor_class": processor[0], **processor[1]})
        _add(folder / "preprocessor_config.json", {"image_processor_type": images[0], **images[1]})
        if template:
            (folder / "chat_template.jinja").write_text(template)


def _add(path: Path, values: dict[str, Any]) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | values))


def _gemma4(folder: Path) -> None:
    named = {"image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>"}
    named |= {"audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>"}
    words = _Words(
        ["<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>"], "<bos>", "<turn|>", "<pad>", **named
    )
    sizes = {"head_dim": 32, "global_head_dim": 32, "hidden_size_per_layer_input": 8}
    layers: dict[str, Any] = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 512}
    layers["max_position_embeddings"] = 32_768
    vocabulary = {"vocab_size_per_layer_input": len(words.tokenizer) + 1}
    vision = {"head_dim": 16, "num_key_value_heads": 2, "position_embedding_size": 512}
    vision["default_output_length"] = 70  # as published; only vLLM reads it
    config = {
        "model_type": "gemma4",
        "text_config": words.text(**sizes, **layers, **vocabulary) | {"vocab_size": len(words.tokenizer) + 1},
        "vision_config": VISION | vision,
        "audio_config": None,
        "boi_token_id": words.id("<|image>"),
        "eoi_token_id": words.id("<image|>"),
        "image_token_id": words.id("<|image|>"),
        "audio_token_id": words.id("<|audio|>"),
        "video_token_id": len(words.tokenizer),  # the processor adds it
    }
    images = ("Gemma4ImageProcessor", {"max_soft_tokens": 70})
    _add(
        folder / "processor_config.json",
        {"feature_extractor": {"feature_extractor_type": "Gemma4AudioFeatureExtractor"}},
    )
    _add(
        folder / "processor_config.json",
        {"video_processor": {"video_processor_type": "Gemma4VideoProcessor"}},
    )
    words.write(folder, config, ("Gemma4Processor", {"image_seq_length": 70}), images, GEMMA4)


def _minicpmv(folder: Path) -> None:
    named = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    named |= {"image_start_token": "<image>", "image_end_token": "</image>"}
    named |= {"slice_start_token": "<slice>", "slice_end_token": "</slice>"}
    named |= {"image_id_start_token": "<image_id>", "image_id_end_token": "</image_id>"}
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    words = _Words(marks, "<|endoftext|>", "<|im_end|>", "<|endoftext|>", **named)
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    rope |= {"rope_theta": 10_000.0, "partial_rotary_factor": 0.25}
    linear = {"linear_key_head_dim": 32, "linear_value_head_dim": 32}
    linear |= {"linear_num_key_heads": 2, "linear_num_value_heads": 2}
    layers = {"layer_types": ["linear_attention", "full_attention"], "head_dim": 32, "rope_parameters": rope}
    config = {
        "model_type": "minicpmv4_6",
        "text_config": words.text(**linear, **layers) | {"model_type": "qwen3_5_text"},
        "vision_config": VISION | {"image_size": 56, "patch_size": 14, "insert_layer_id": 0},
        "insert_layer_id": 0,
        "image_size": 56,
        "image_token_id": words.id("<|image_pad|>"),
        "video_token_id": words.id("<|video_pad|>"),
    }
    images = ("MiniCPMV4_6ImageProcessor", {"scale_resolution": 56, "max_slice_nums": 2})
    video = {"video_processor_type": "MiniCPMV4_6VideoProcessor"}
    _add(folder / "video_preprocessor_config.json", video | images[1])
    template = QWEN3.replace("<|vision_start|><|image_pad|><|vision_end|>", "<|image_pad|>")
    words.write(folder, config, ("MiniCPMV4_6Processor", {}), images, template)


def _paligemma(folder: Path) -> None:
    places = [f"<loc{place:04}>" for place in range(1024)] + [f"<seg{part:03}>" for part in range(128)]
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", *places]
    words = _Words(marks, "<bos>", "<eos>", "<pad>", image_token="<image>")
    config = {
        "model_type": "paligemma",
        "text_config": words.text(head_dim=32) | {"model_type": "gemma"},
        "vision_config": VISION | {"model_type": "siglip_vision_model", "image_size": 16, "patch_size": 8},
        "projection_dim": 32,
        "hidden_size": 32,
        "image_token_index": words.id("<image>"),
        "pad_token_id": words.pad,
    }
    side = {"height": 16, "width": 16}
    images = ("SiglipImageProcessor", {"size": side, "image_seq_length": 4})
    words.write(folder, config, ("PaliGemmaProcessor", {}), images, None)


def _mistral3(folder: Path) -> None:
    marks = ["<unk>", "<s>", "</s>", "<pad>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
    words = _Words([*marks, "[IMG]", "[IMG_BREAK]", "[IMG_END]"], "<s>", "</s>", "<pad>")
    config = {
        "model_type": "mistral3",
        "text_config": words.text(head_dim=32) | {"model_type": "mistral"},
        "vision_config": VISION | {"model_type": "pixtral", "image_size": 64, "patch_size": 8},
        "image_token_index": words.id("[IMG]"),
        "spatial_merge_size": 2,
        "tie_word_embeddings": False,
    }
    images = (
        "PixtralImageProcessor",
        {"size": {"longest_edge": 64}, "patch_size": {"height": 8, "width": 8}},
    )
    processor = ("PixtralProcessor", {"patch_size": 8, "spatial_merge_size": 2})
    words.write(folder, config, processor, images, MISTRAL3)


def _llama4(folder: Path) -> None:
    marks = [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|finetune_right_pad|>",
        "<|header_start|>",
        "<|header_end|>",
    ]
    marks += ["<|eot|>", "<|image_start|>", "<|image_end|>", "<|image|>", "<|patch|>"]
    marks += ["<|tile_x_separator|>", "<|tile_y_separator|>"]
    words = _Words(marks, "<|begin_of_text|>", "<|eot|>", "<|finetune_right_pad|>")
    experts = {"num_local_experts": 2, "intermediate_size_mlp": 48, "head_dim": 32}
    outputs = {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}
    vision = VISION | outputs | {"image_size": 16, "patch_size": 4, "intermediate_size": 128}
    config = {
        "model_type": "llama4",
        "text_config": words.text(**experts),
        "vision_config": vision,
        "boi_token_index": words.id("<|image_start|>"),
        "eoi_token_index": words.id("<|image_end|>"),
        "image_token_index": words.id("<|patch|>"),
    }
    images = ("Llama4ImageProcessor", {"size": {"height": 16, "width": 16}, "max_patches": 4})
    processor = ("Llama4Processor", {"patch_size": 4, "pixel_shuffle_ratio": 0.5})
    words.write(folder, config, processor, images, LLAMA4)


def _lfm2(folder: Path) -> None:
    named = {"image_token": "<image>", "image_start_token": "<|image_start|>"}
    named |= {"image_end_token": "<|image_end|>", "image_thumbnail_token": "<|img_thumbnail|>"}
    marks = ["<|pad|>", "<|startoftext|>", "<|im_start|>", "<|im_end|>"]
    marks += [f"<|img_row_{row}_col_{column}|>" for row in range(1, 3) for column in range(1, 3)]
    words = _Words(marks, "<|startoftext|>", "<|im_end|>", "<|pad|>", **named)
    layers = {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}
    layers |= {"hidden_size": 64, "conv_dim": 64, "block_dim": 64}  # only vLLM reads the last two
    vision = VISION | {"model_type": "siglip2_vision_model", "patch_size": 4, "num_patches": 64}
    config = {
        "model_type": "lfm2_vl",
        "text_config": words.text(**layers) | {"model_type": "lfm2"},
        "vision_config": vision,
        "image_token_id": words.id("<image>"),
        "projector_hidden_size": 32,
        "downsample_factor": 2,
    }
    sizes = {"encoder_patch_size": 4, "tile_size": 16, "min_image_tokens": 4, "max_image_tokens": 16}
    split = {"do_image_splitting": False, "downsample_factor": 2, "max_num_patches": 64}
    images = ("Lfm2VlImageProcessor", sizes | split)
    words.write(folder, config, ("Lfm2VlProcessor", {}), images, LFM2)
