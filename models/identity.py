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

from models.endpoint import Endpoint, is_endpoint, only_describes
from schemas.errors import ModelError

EMBEDDED = {name: Path(__file__).parent / name.replace("-", "_") for name in ("embedded", "embedded-world")}
"""The models that come with the code: one for each task."""
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
CODEC_KEYS = {"sample_size", "in_channels", "block_out_channels", "num_vq_embeddings"}
"""What a codec's config.json must say."""
CHUNK_BYTES = 1 << 20


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
    """Where the model called `name` lies. Raises ModelError where there is no such folder."""
    if is_endpoint(name):
        raise only_describes(name)
    folder = EMBEDDED.get(name) or Path(name)
    if not folder.is_dir():
        raise ModelError(f"no model {name!r}: give {' or '.join(EMBEDDED)}, or the path of a model's folder")
    return folder


def is_chat(config: Mapping[str, Any]) -> bool:
    """Whether the model whose config.json this is sees pixels and writes text."""
    return "vision_config" in config


def sees_images(name: str) -> bool:
    """Whether the model called `name` sees images, not codes. Raises ModelError where there is none."""
    return is_endpoint(name) or is_chat(model_config(model_folder(name)))


def codec_folder(name: str, codec: str | None = None) -> Path:
    """Where the codec lies whose codes go with the model called `name`: its own.

    For a model that sees images it is the codec of the model called `codec`, by default the embedded one's.
    Raises ModelError where there is none, and where a model that has one is given another.
    """
    if sees_images(name):
        name = codec or "embedded"
    elif codec is not None and model_folder(codec) != model_folder(name):
        raise ModelError(f"codec: {name} sees the codes of its own codec, not {codec}'s; leave codec out")
    folder = model_folder(name) / CODEC
    if not folder.is_dir():
        raise ModelError(f"{name} has no codec; `kinescribe codec` writes it to {folder}")
    return folder


def require_files(folder: Path) -> None:
    """Raises ModelError where the folder lacks a file of a model, and where its weights are cut off."""
    chat = (folder / "config.json").is_file() and is_chat(model_config(folder))
    for file, other in FILES.items():
        if chat and file.startswith(CODEC):
            continue
        if not (folder / file).is_file() and not (folder / other).is_file():
            remedy = "`kinescribe codec` writes it" if file.startswith(CODEC) else "see docs/ARCHITECTURE.md"
            raise ModelError(
                f"{folder} is no {'chat' if chat else 'unified'} model: {file} is missing; {remedy}"
            )
    for weights in (*weight_files(folder), *(folder / CODEC).glob("*.safetensors")):
        require_whole(weights)


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
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder} cannot be opened: {error}; restore it") from error


def model_config(folder: Path) -> dict[str, Any]:
    """What a model's config.json says. Raises ModelError where it is missing or no JSON object."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (ValueError, OSError) as error:
        raise ModelError(f"{folder} is no model: its config.json cannot be read: {error!r}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder} is no model: its config.json holds {type(config).__name__}")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors of a model. Raises ModelError where one is missing."""
    files = [folder / WEIGHTS]
    if not files[0].is_file() and (folder / SHARDS).is_file():
        try:
            shards = set(json.loads((folder / SHARDS).read_text())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{folder / SHARDS} is damaged: {error!r}; restore it") from error
        files = [folder / shard for shard in sorted(shards)]
    for file in files:
        if not file.is_file():
            raise ModelError(f"{folder} lacks {file.name}; download it again")
    return files


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
    except (ValueError, AttributeError, OSError) as error:
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
