"""What a stranger can write into the files that transformers, diffusers and tokenizers read."""

import json
import shutil
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinescribe.models.checkpoint_files import WEIGHTS, identify
from kinescribe.models.codec import ImageCodec
from kinescribe.models.opening import opening
from kinescribe.models.registry import load
from kinescribe.schemas.errors import ModelError
from tests.tiny_chat import tiny_chat
from tests.tiny_edit import tiny_edit
from tests.tiny_vlm import tiny_vlm

CONFIG = "config.json"
TOKENIZER = "tokenizer_config.json"
MINUTE = 60.0
PROOF = "proof"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    tiny_vlm().save(root / "own")
    return {
        "own": root / "own",
        **{name: tiny_chat(name, root / name) for name in ("llava", "qwen")},
        "edit": tiny_edit(root / "edit"),
    }


@pytest.fixture
def harmed(folders: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a model with other values in one of its files of JSON."""

    def make(name: str, file: str, **changes: Any) -> Path:
        copy = tmp_path / name
        shutil.copytree(folders[name], copy)
        content = json.loads((copy / file).read_text()) if (copy / file).is_file() else {}
        (copy / file).write_text(json.dumps(_changed(content, changes)))
        return copy

    return make


def _changed(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`text_config__x` is a key of a section."""
    for key, value in changes.items():
        *sections, name = key.split("__")
        section = content
        for part in sections:
            section = section[part]
        section[name] = value
    return content


def use(folder: Path) -> None:
    identify(str(folder))
    load(str(folder), "world" if folder.name == "edit" else "dynamics")


def require_refused(folder: Path) -> str:
    """The message of one line with which the model is refused, at the latest when it is loaded."""
    started = time.monotonic()
    with pytest.raises(ModelError) as refused:
        use(folder)
    assert time.monotonic() - started < MINUTE
    message = str(refused.value)
    assert "\n" not in message
    assert str(folder) in message or message.startswith("the model")
    assert len(message) < 600 + len(str(folder))
    return message


WRONG = [
    ("own", CONFIG, {"num_hidden_layers": "x"}),
    ("own", CONFIG, {"hidden_size": -1}),
    ("own", CONFIG, {"num_attention_heads": 0}),
    ("own", CONFIG, {"dtype": "absent"}),
    ("own", CONFIG, {"dtype": ["a"]}),
    ("own", CONFIG, {"layer_types": ["absent"]}),
    ("own", CONFIG, {"first_code_id": -20}),
    ("own", CONFIG, {"first_code_id": {}}),
    ("own", "generation_config.json", {"watermarking_config": {"a": 1}}),
    ("own", TOKENIZER, {"tokenizer_class": 3}),
    ("own", TOKENIZER, {"tokenizer_class": "RagTokenizer"}),
    ("own", TOKENIZER, {"eos_token": None}),
    ("own", TOKENIZER, {"bos_token": None}),
    ("own", TOKENIZER, {"model_max_length": "x"}),
    ("llava", "added_tokens.json", {"new": 10**18}),
    ("llava", CONFIG, {"text_config": 3}),
    ("llava", CONFIG, {"vision_config": [[]]}),
    ("llava", CONFIG, {"vision_config__image_size": 0}),
    ("llava", TOKENIZER, {"pad_token": None}),
    ("llava", TOKENIZER, {"padding_side": "x"}),
    ("llava", TOKENIZER, {"added_tokens_decoder": {"x": {"content": "new"}}}),
    ("llava", "chat_template.json", {"a": 1}),
    ("llava", "processor_config.json", {"image_processor__image_processor_type": "os.system"}),
    ("qwen", TOKENIZER, {"extra_special_tokens": {"image_token": "new"}}),
    ("qwen", TOKENIZER, {"model_input_names": ["a"]}),
    ("qwen", "preprocessor_config.json", {"patch_size": "x"}),
    ("qwen", "preprocessor_config.json", {"patch_size": 0}),
    ("edit", "unet/config.json", {"block_out_channels": []}),
    ("edit", "unet/config.json", {"_class_name": 3}),
    ("edit", "model_index.json", {"unet": "x"}),
    ("edit", "model_index.json", {"scheduler": ["os", "system"]}),
    ("edit", "model_index.json", {"unet": ["diffusers", "AutoencoderKL"]}),
    ("edit", "tokenizer/vocab.json", {"a": []}),
]


@pytest.mark.parametrize(("name", "file", "changes"), WRONG)
def test_a_wrong_value_in_any_file_is_an_error_in_words(
    harmed: Callable[..., Path], name: str, file: str, changes: dict[str, Any]
):
    require_refused(harmed(name, file, **changes))


LARGE = 1 << 24
HUGE = [
    ("own", CONFIG, {"num_hidden_layers": LARGE}),
    ("own", CONFIG, {"vocab_size": LARGE, "hidden_size": 1 << 12}),
    ("own", CONFIG, {"intermediate_size": LARGE}),
    ("llava", CONFIG, {"text_config__num_hidden_layers": LARGE}),
    ("llava", CONFIG, {"vision_config__num_hidden_layers": LARGE}),
    ("llava", CONFIG, {"vision_config__image_size": LARGE}),
    ("llava", "processor_config.json", {"image_processor__crop_size": {"height": 10**6, "width": 10**6}}),
    ("llava", "processor_config.json", {"image_processor__size": {"shortest_edge": 10**9}}),
    ("qwen", "preprocessor_config.json", {"size": {"shortest_edge": 10**9, "longest_edge": 10**12}}),
    ("edit", "unet/config.json", {"layers_per_block": LARGE}),
    ("edit", "unet/config.json", {"cross_attention_dim": LARGE}),
    ("edit", "unet/config.json", {"sample_size": LARGE}),
    ("edit", "vae/config.json", {"latent_channels": LARGE}),
    ("edit", "text_encoder/config.json", {"num_hidden_layers": LARGE}),
]


@pytest.mark.parametrize(("name", "file", "changes"), HUGE)
def test_a_network_or_an_image_of_any_size_is_refused_before_it_is_made(
    harmed: Callable[..., Path], name: str, file: str, changes: dict[str, Any]
):
    require_refused(harmed(name, file, **changes))


def test_weights_that_a_configuration_adds_are_not_invented(harmed: Callable[..., Path]):
    folder = harmed("own", CONFIG, vocab_size=LARGE, hidden_size=16)
    tensors = load_file(folder / WEIGHTS)
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if tensor.shape[0] != tensors["lm_head.weight"].shape[0]
    }
    save_file(kept, folder / WEIGHTS, {"format": "pt"})
    assert "much larger than its weights" in require_refused(folder)


def test_the_limit_is_for_the_folder_and_ends_with_it(folders: dict[str, Path]):
    with opening(folders["own"]):
        torch.nn.Linear(100, 100)
    with pytest.raises(ModelError, match="much larger than its weights"), opening(folders["own"]):
        torch.nn.Linear(1 << 15, 1 << 15, device="meta")
    torch.nn.Linear(1 << 15, 1 << 15, device="meta")


@pytest.mark.parametrize("changes", [{"layers_per_block": LARGE}, {"latent_channels": LARGE}])
def test_a_codecs_network_has_the_same_limits(harmed: Callable[..., Path], changes: dict[str, Any]):
    folder = harmed("own", "codec/config.json", **changes) / "codec"
    with pytest.raises(ModelError, match="cannot be opened"):
        ImageCodec.load(folder)


CODE = f"open({PROOF!r}, 'w').close()\nclass Evil: pass\n"


def test_a_codec_that_lacks_weights_of_its_configuration_is_refused(harmed: Callable[..., Path]):
    folder = harmed("own", "codec/config.json", mid_block_add_attention=True) / "codec"
    with pytest.raises(ModelError, match=r"lacks \d+ weights, such as .*attention"):
        ImageCodec.load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"down_block_types": []},
        {"block_out_channels": 3},
        {"block_out_channels": []},
        {"sample_size": 0},
        {"sample_size": "x"},
        {"sample_size": 1 << 14},
        {"num_vq_embeddings": 1 << 17},
        {"in_channels": True},
    ],
)
def test_a_codecs_sizes_are_checked_before_they_are_used(
    harmed: Callable[..., Path], changes: dict[str, Any]
):
    folder = harmed("own", "codec/config.json", **changes)
    assert "codec/config.json: " in require_refused(folder)
    with pytest.raises(ModelError):
        ImageCodec.load(folder / "codec")


AUTO = ("AutoConfig", "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoProcessor")
CALLED = {
    "auto_map": dict.fromkeys(AUTO, "evil.Evil") | {"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
    "tokenizer_class": "Evil",
}


@pytest.mark.parametrize("name", ["own", "llava", "edit"])
@pytest.mark.parametrize("model_type", [None, "evil"])
def test_code_in_the_folder_is_not_run(
    harmed: Callable[..., Path],
    name: str,
    model_type: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = "model_index.json" if name == "edit" else CONFIG
    changes = CALLED | ({"model_type": model_type} if model_type else {})
    changes |= {"unet": ["evil", "Evil"]} if name == "edit" and model_type else {}
    folder = harmed(name, file, **changes)
    for path in (folder, folder / "unet", folder / "custom_generate"):
        path.mkdir(exist_ok=True)
        for code in ("evil.py", "pipeline.py", "generate.py"):
            (path / code).write_text(CODE)
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch proof'\ntR.")
    if name != "edit":
        tokenizer = folder / TOKENIZER
        tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()) | CALLED))
    try:
        load(str(folder), "world" if name == "edit" else "dynamics")
    except ModelError as refused:
        assert "\n" not in str(refused)  # noqa: PT017 (either outcome is right, if nothing has run)
    assert not (tmp_path / "here" / PROOF).exists()


WEIGHT_FILES = [
    ("own", WEIGHTS),
    ("llava", WEIGHTS),
    ("qwen", WEIGHTS),
    ("edit", "unet/diffusion_pytorch_model.safetensors"),
    ("edit", "vae/diffusion_pytorch_model.safetensors"),
    ("edit", "text_encoder/model.safetensors"),
]


@pytest.mark.parametrize(("name", "file"), WEIGHT_FILES)
def test_a_weight_that_is_missing_is_not_drawn_at_random(harmed: Callable[..., Path], name: str, file: str):
    folder = harmed(name, CONFIG if name != "edit" else "model_index.json")
    tensors = load_file(folder / file)
    tensors.pop(max(tensors, key=lambda name: (tensors[name].ndim, name)))
    save_file(tensors, folder / file, {"format": "pt"})
    assert "weights" in require_refused(folder)


def header(content: object, length: int | None = None) -> bytes:
    """The beginning of a safetensors file."""
    text = json.dumps(content).encode() if not isinstance(content, bytes) else content
    return struct.pack("<Q", len(text) if length is None else length) + text


def weight(
    dtype: str = "F32", shape: Sequence[int] = (1,), offsets: Sequence[int] = (0, 4)
) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HEADERS = [
    b"",
    b"\x00" * 4,
    header({}, (1 << 64) - 1),
    header({}, 1 << 40),
    header(b"[]"),
    header(b"\xff\xfe"),
    header(b'{"a":' * 100_000),
    header({"lm_head.weight": weight(shape=[1 << 40, 1 << 40])}) + b"0000",
    header({"lm_head.weight": weight(shape=[-1])}) + b"0000",
    header({"lm_head.weight": weight(offsets=[4, 0])}) + b"0000",
    header({"lm_head.weight": weight(offsets=[0, 1 << 62])}) + b"0000",
    header({"lm_head.weight": weight("pickle")}) + b"0000",
    header({"lm_head.weight": weight(), "model.norm.weight": weight()}) + b"0000",
]


@pytest.mark.parametrize("number", range(len(HEADERS)))
@pytest.mark.parametrize("file", [WEIGHTS, "codec/diffusion_pytorch_model.safetensors"])
def test_a_crafted_weight_file_is_refused(harmed: Callable[..., Path], file: str, number: int):
    folder = harmed("own", CONFIG)
    (folder / file).write_bytes(HEADERS[number])
    require_refused(folder)


@pytest.mark.parametrize("length", [10**30, 1 << 40, -1, 0])
def test_an_editors_text_is_not_padded_to_any_length(harmed: Callable[..., Path], length: int):
    require_refused(harmed("edit", "tokenizer/tokenizer_config.json", model_max_length=length))
