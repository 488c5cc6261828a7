"""What a model is, read from its files: digests and the codec's grid. Loads no network and no torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from kinescribe.models.endpoint import Endpoint, is_endpoint, only_describes
from kinescribe.models.hub import hub_folder, hub_model, require_commit
from kinescribe.schemas.errors import ModelError

WRITES_CODEC = (
    "`kinescribe codec` writes it to codec/ in the model's folder, for a hub's model one that `hf download "
    "--local-dir` made"
)
EMBEDDED = {name: Path(__file__).parent / name.replace("-", "_") for name in ("embedded", "embedded-world")}
"""The models that come with the code: one for each task."""
ADAPTER = "adapter_config.json"
CODEC = "codec"
CODEC_WEIGHTS = "diffusion_pytorch_model.safetensors"
WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"
FILES = {
    "config.json": "config.json",
    WEIGHTS: SHARDS,
    "tokenizer.json": "tokenizer.json",
    f"{CODEC}/config.json": f"{CODEC}/config.json",
    f"{CODEC}/{CODEC_WEIGHTS}": f"{CODEC}/{WEIGHTS}",
}
"""Without these a folder is no model; the second name serves where the first is missing. Chat models have no
codec."""
PIPELINE = "model_index.json"
EDIT_PIPELINE = "StableDiffusionInstructPix2PixPipeline"
EDIT_PARTS = {"unet": CODEC_WEIGHTS, "vae": CODEC_WEIGHTS, "text_encoder": WEIGHTS}
"""The networks of a pipeline that edits images, and what their weights are called."""
EDIT_FILES = {
    PIPELINE: PIPELINE,
    "scheduler/scheduler_config.json": "scheduler/scheduler_config.json",
    "tokenizer/vocab.json": "tokenizer/tokenizer.json",
    **{f"{part}/config.json": f"{part}/config.json" for part in EDIT_PARTS},
    **{f"{part}/{weights}": f"{part}/{weights}.index.json" for part, weights in EDIT_PARTS.items()},
}
"""As `FILES`, of such a pipeline."""
CODEC_KEYS = {"sample_size", "in_channels", "block_out_channels", "num_vq_embeddings"}
"""What a codec's config.json must say."""
CHUNK_BYTES = 1 << 20
LOADED = 1.25
"""Bytes that a model takes at the least where it runs, for each byte of its weights' files."""


@dataclass(frozen=True, slots=True)
class CodecIdentity:
    """How codes are to be read."""

    id: str
    """Hash of what decides the codes."""
    grid: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Whose labels a dataset holds, and how the codes that it sees are to be read."""

    fingerprint: str
    """Hash of every file of the folder that can change a label; an endpoint's is its name."""
    codec: CodecIdentity | None
    """None where it sees images."""


def model_folder(name: str) -> Path:
    """Where the model called `name` lies; one of a hub is downloaded to there. Raises ModelError."""
    if is_endpoint(name):
        raise only_describes(name)
    folder = EMBEDDED.get(name) or Path(name)
    if pinned := hub_model(name):
        if folder.exists():
            raise ModelError(f"{name} is a model of the hub and a folder here; write ./{name} for the folder")
        return hub_folder(pinned)
    if not folder.is_dir():
        require_commit(name)
        raise ModelError(
            f"no model {name!r}: give {' or '.join(EMBEDDED)}, the path of a model's folder, or "
            "ORG/NAME@COMMIT of a hub"
        )
    return folder


def is_chat(config: Mapping[str, Any]) -> bool:
    """Whether the model whose config.json this is sees pixels and writes text."""
    return "vision_config" in config


def is_edit(config: Mapping[str, Any]) -> bool:
    """Whether the model whose model_index.json this is edits images."""
    return config.get("_class_name") == EDIT_PIPELINE


def sees_images(name: str) -> bool:
    """Whether the model called `name` sees images, not codes. Raises ModelError where there is none."""
    if is_endpoint(name):
        return True
    config = model_config(model_folder(name))
    return is_chat(config) or is_edit(config)


def codec_folder(name: str, codec: str | None = None) -> Path:
    """Where the codec lies whose codes go with the model called `name`: its own.

    For a model that sees images it is the codec of the model called `codec`, by default the embedded one's.
    Raises ModelError where there is none, where a model that has one is given another, and where the model
    describes nothing.
    """
    if not is_endpoint(name) and is_edit(model_config(model_folder(name))):
        raise ModelError(f"{name} is an image editor, which only imagines; name a dynamics model")
    if sees_images(name):
        name = codec or "embedded"
    elif codec is not None and model_folder(codec) != model_folder(name):
        raise ModelError(f"codec: {name} sees the codes of its own codec, not {codec}'s; leave codec out")
    folder = model_folder(name) / CODEC
    if not folder.is_dir():
        raise ModelError(f"{name} has no codec; {WRITES_CODEC}")
    return folder


def require_files(folder: Path) -> None:
    """Raises ModelError where a file of a model is missing or cut off, or where one changes its weights."""
    if (folder / ADAPTER).is_file():
        # It may be a pickle, and no fingerprint covers it.
        raise ModelError(
            f"{folder} has an adapter, which transformers would add; merge it, or move {ADAPTER} away"
        )
    kind, files = _kind(folder)
    for file, other in files.items():
        if not (folder / file).is_file() and not (folder / other).is_file():
            remedy = WRITES_CODEC if file.startswith(CODEC) else "see docs/ARCHITECTURE.md"
            raise ModelError(f"{folder} is no {kind} model: {file} is missing; {remedy}")
    parts = EDIT_PARTS if kind == "editing" else {"": WEIGHTS}
    for weights in (file for part, name in parts.items() for file in weight_files(folder / part, name)):
        require_whole(weights)
    for weights in (folder / CODEC).glob("*.safetensors"):
        require_whole(weights)


def _kind(folder: Path) -> tuple[str, Mapping[str, str]]:
    """What kind of model the folder seems to hold, and the files that one has."""
    known = any((folder / file).is_file() for file in ("config.json", PIPELINE))
    config = model_config(folder) if known else {}
    if is_edit(config):
        return "editing", EDIT_FILES
    if is_chat(config):
        return "chat", {file: other for file, other in FILES.items() if not file.startswith(CODEC)}
    return "unified", FILES


def require_whole(weights: Path) -> None:
    """Raises ModelError where the size of a safetensors file is not what its header says."""
    try:
        with safe_open(weights, "numpy"):  # reads the header alone
            pass
    except SafetensorError as error:
        raise ModelError(f"{weights} is damaged: {error}; restore it") from error


@contextmanager
def opening(folder: Path) -> Generator[None]:
    """What transformers says of files that it cannot read, or that do not fit together, as a ModelError."""
    try:
        yield
    except ImportError as error:  # of a kind of attention that was asked for
        raise ModelError(f"{folder} cannot be opened: {error} Install it, or leave attention out") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder} cannot be opened: {error}; restore it") from error


def model_config(folder: Path) -> dict[str, Any]:
    """What a model's config.json, or a pipeline's model_index.json, says.

    Raises ModelError where it is missing or no JSON object.
    """
    is_pipeline = (folder / PIPELINE).is_file() and not (folder / "config.json").is_file()
    file = PIPELINE if is_pipeline else "config.json"
    try:
        config = json.loads((folder / file).read_text())
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(f"{folder} is no model: its {file} cannot be read: {error!r}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder} is no model: its {file} holds {type(config).__name__}")
    return config


def weight_files(folder: Path, weights: str = WEIGHTS) -> list[Path]:
    """The safetensors of a model, or of a part of one. Raises ModelError where one is missing."""
    files, index = [folder / weights], folder / f"{weights}.index.json"
    if not files[0].is_file() and index.is_file():
        try:
            shards = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{index} is damaged: {error!r}; restore it") from error
        files = [folder / shard for shard in sorted(shards)]
    for file in files:
        if not file.is_file():
            raise ModelError(f"{folder} lacks {file.name}; download it again")
    return files


def weight_bytes(name: str) -> int:
    """Size of the weights of the model called `name`, with its codec's; 0 where a server has them."""
    if is_endpoint(name):
        return 0
    return sum(path.stat().st_size for path in model_folder(name).rglob("*.safetensors"))


def identify(name: str) -> ModelIdentity:
    """The identity of the model called `name`.

    Raises ModelError where it lacks a file or one is damaged, and ConfigError where it is no endpoint.
    """
    if is_endpoint(name):
        Endpoint.named(name)  # raises where it is none
        return ModelIdentity(name, None)
    folder = model_folder(name)
    require_files(folder)
    codec = None if sees_images(name) else identify_codec(folder / CODEC)
    return ModelIdentity(_digest(folder), codec)


def identify_codec(folder: Path) -> CodecIdentity:
    """The identity of the codec in `folder`. Raises ModelError where it is damaged."""
    config = codec_config(folder)
    try:
        weights = next(path for name in (CODEC_WEIGHTS, WEIGHTS) if (path := folder / name).is_file())
        tensors = load_file(weights)
        return CodecIdentity(codec_id(config["sample_size"], tensors.items()), codec_grid(config))
    except (SafetensorError, KeyError, OSError, StopIteration) as error:
        raise ModelError(f"the codec in {folder} is damaged: {error!r}; restore it") from error


def codec_config(folder: Path) -> dict[str, Any]:
    """What a codec's folder says of it, without a look at the weights. Raises ModelError where damaged."""
    try:
        config = json.loads((folder / "config.json").read_text())
        missing = sorted(CODEC_KEYS - config.keys())
    except (ValueError, RecursionError, AttributeError, OSError) as error:
        raise ModelError(f"the codec in {folder} is damaged: {error!r}; restore it") from error
    if missing:
        raise ModelError(f"{folder}/config.json lacks {', '.join(missing)}, so it is no codec's; restore it")
    return config


def codec_grid(config: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) in tokens: each block of the encoder but the last halves the side."""
    side = config["sample_size"] // patch_side(config) // 2 ** (len(config["block_out_channels"]) - 1)
    return side, side


def patch_side(config: Mapping[str, Any]) -> int:
    """p, where the network's input channels are p×p patches of RGB pixels."""
    return math.isqrt(config["in_channels"] // 3)


def codec_id(resolution: int, tensors: Iterable[tuple[str, NDArray[np.generic]]]) -> str:
    """Hash of what decides the codes: encoder, codebook and resolution."""
    digest = hashlib.blake2b(str(resolution).encode(), digest_size=8)
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        if name.startswith(("encoder.", "quant_conv.", "quantize.")):
            digest.update(name.encode() + tensor.astype(np.float32).tobytes())
    return f"vq-{digest.hexdigest()}"


def _digest(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".jinja", ".safetensors"):
            digest.update(path.relative_to(folder).as_posix().encode())
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
    return digest.hexdigest()
