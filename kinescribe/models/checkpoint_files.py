"""What the files of a model say: where they are, their family, digests and the codec's grid.

Opens no network, and imports torch only to identify a chat model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from kinescribe.models import model_card
from kinescribe.models.endpoint import Endpoint, is_endpoint
from kinescribe.models.families import (
    CHAT,
    CODEC,
    CODEC_WEIGHTS,
    ENDPOINT,
    PIPELINE,
    WEIGHTS,
    Capability,
    ModelFamily,
    family_of,
)
from kinescribe.models.folder_files import files_of, read_object, require_own_files, require_sizes
from kinescribe.models.hub import hub_folder, hub_model, require_commit
from kinescribe.schemas.codes import FITS, Fit, codec_id
from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.likelihoods import Histogram
from kinescribe.schemas.paths import with_home

WRITES_CODEC = (
    "`kinescribe codec` writes it to codec/ in the model's folder; download a model of a hub with "
    "`hf download --local-dir` first"
)
EMBEDDED = {name: Path(__file__).parent / name.replace("-", "_") for name in ("embedded", "embedded-world")}
"""The models that come with the package: one for each task."""
EMBEDDED_DOES: dict[str, tuple[Capability, ...]] = {
    "embedded": ("describe", "score"),
    "embedded-world": ("imagine", "score"),
}
"""What the embedded models were trained for, which is less than their family can do."""
ADAPTER = "adapter_config.json"
BLOCKS = "block_out_channels"
CODEC_KEYS = {"sample_size", "in_channels", BLOCKS, "num_vq_embeddings"}
"""The keys that a codec's config.json must have."""
MAX_CODES = 1 << 16
"""The most codes of an image."""
MAX_CODEBOOK = 1 << 16
"""Datasets store a code in 16 bits."""
CHUNK_BYTES = 1 << 20
LOADED = 1.25
"""The least memory that a loaded model takes, as a multiple of the size of its weight files."""


@dataclass(frozen=True, slots=True)
class CodecIdentity:
    """What is needed to read codes."""

    id: str
    """Hash of everything that decides the codes."""
    grid: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model that labelled a dataset, and the codec of the codes that it sees."""

    fingerprint: str
    """Hash of every file of the folder that can change a label, and what prepares the model's images if that
    isn't Pillow; for an endpoint, the model that it serves."""
    codec: CodecIdentity | None
    """None if the model sees images."""


def model_folder(name: str) -> Path:
    """The folder of the model called `name`; downloads a model of a hub. Raises ModelError."""
    if is_endpoint(name):
        raise ModelError(f"{name} is a server, which has no folder here; name a model's folder")
    folder = EMBEDDED.get(name) or Path(with_home(name))
    if pinned := hub_model(name):
        if folder.exists():
            raise ModelError(
                f"{name} is both a model of the hub and a folder here; write ./{name} for the folder"
            )
        return hub_folder(pinned)
    if not folder.is_dir():
        require_commit(name)
        raise ModelError(
            f"no model {name!r}: give {' or '.join(EMBEDDED)}, the path of a model's folder, or "
            "ORG/NAME@COMMIT of a hub"
        )
    return folder


def family_named(name: str) -> ModelFamily:
    """The family of the model called `name`. Raises ModelError if there is no such model."""
    return ENDPOINT if is_endpoint(name) else family_of(model_config(model_folder(name)))


def capabilities(name: str) -> tuple[Capability, ...]:
    """What the model called `name` can do. Raises ModelError if there is no such model."""
    return EMBEDDED_DOES.get(name) or family_named(name).does


def codec_folder(name: str, codec: str | None = None) -> Path:
    """The folder of the codec that labels with the model called `name`.

    A unified model uses its own. A model that sees images uses the codec of the model called `codec`, by
    default the embedded one's. Raises ModelError if a unified model is given another codec, if the folder has
    no codec, and if the model can't describe frame pairs.
    """
    family = family_named(name)
    family.require(name, "describer")
    if not family.has_codec:
        name = codec or "embedded"
    elif codec is not None and model_folder(codec) != model_folder(name):
        raise ModelError(f"codec: {name} sees the codes of its own codec, not {codec}'s; leave codec out")
    folder = model_folder(name) / CODEC
    if not folder.is_dir():
        raise ModelError(f"{name} has no codec; {WRITES_CODEC}")
    return folder


def require_files(folder: Path) -> ModelFamily:
    """The family of the model in `folder`.

    Raises ModelError if a file is missing or truncated, or if an adapter would change the weights.
    """
    if (folder / ADAPTER).is_file():
        # It may be a pickle, and no fingerprint covers it.
        raise ModelError(
            f"{folder} has an adapter, which transformers would add; merge it, or move {ADAPTER} away"
        )
    if not any((folder / file).is_file() for file in ("config.json", PIPELINE)):
        raise _not_a_model(folder)
    require_own_files(folder)
    family = family_of(model_config(folder))
    assert family.files is not None
    assert family.weights is not None
    for file, alternative in family.files.items():
        if not (folder / file).is_file() and not (folder / alternative).is_file():
            needed = f"a folder of this kind has {', '.join(family.files)}"
            remedy = WRITES_CODEC if file.startswith(CODEC) else needed
            raise ModelError(f"{folder} is not {family.noun}: {file} is missing; {remedy}")
    for file in family.files:
        if file.endswith("config.json"):
            require_sizes(folder / file)
    for part, name in family.weights.items():
        for weights in weight_files(folder / part, name):
            require_whole(weights)
    for weights in (folder / CODEC).glob("*.safetensors"):
        require_whole(weights)
    return family


def _not_a_model(folder: Path) -> ModelError:
    """The error for a folder without config.json. A run of `train` has its model in a folder of its own."""
    export = folder / "export"
    if export.is_dir():
        return ModelError(f"{folder} is not a model but a training run; name its export, {export}")
    what = "is a dataset, not a model" if (folder / "data").is_dir() else "is not a model"
    return ModelError(
        f"{folder} {what}: config.json is missing; name a folder with the model's config.json, tokenizer and "
        "weights in safetensors, or an image editor's with model_index.json"
    )


def require_whole(weights: Path) -> None:
    """Raise ModelError if a safetensors file doesn't have the size that its header says."""
    try:
        with safe_open(weights, "numpy"):  # reads only the header
            pass
    except SafetensorError as error:
        raise ModelError(f"{weights} is damaged: {error}; restore it") from error


@contextmanager
def quiet_progress(*libraries: str) -> Generator[None]:
    """Hide the progress bars of libraries such as transformers, which would interrupt our lines on stderr."""
    loggings = [import_module(f"{library}.utils.logging") for library in libraries]
    visible = [logging for logging in loggings if logging.is_progress_bar_enabled()]
    for logging in visible:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging in visible:
            logging.enable_progress_bar()


def model_config(folder: Path) -> dict[str, Any]:
    """The content of a model's config.json, or of a pipeline's model_index.json.

    Raises ModelError if it is missing or not a JSON object.
    """
    is_pipeline = (folder / PIPELINE).is_file() and not (folder / "config.json").is_file()
    file = PIPELINE if is_pipeline else "config.json"
    return read_object(folder / file)


def weight_files(folder: Path, weights: str = WEIGHTS) -> list[Path]:
    """The weight files in `folder`, which may be shards. Raises ModelError if one is missing."""
    files, index = [folder / weights], folder / f"{weights}.index.json"
    if not files[0].is_file() and index.is_file():
        weight_map = read_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(map(_is_shard, weight_map.values())):
            raise ModelError(f"{index} is damaged: weight_map must name files of its folder; restore it")
        files = [folder / shard for shard in sorted(set(weight_map.values()))]
    for file in files:
        if not file.is_file():
            raise ModelError(f"{folder} lacks {file.name}; download it again")
    return files


def _is_shard(name: object) -> bool:
    """Whether a value of an index is the name of a weight file beside it, and not a path."""
    return isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")


def weight_bytes(name: str) -> int:
    """Size of the weight files of the model called `name`, including its codec's; 0 for an endpoint."""
    if is_endpoint(name):
        return 0
    return sum(path.stat().st_size for path in model_folder(name).rglob("*.safetensors"))


def identify(name: str) -> ModelIdentity:
    """The identity of the model called `name`.

    That of MODEL@URL is the model that the server says it serves, whatever its address. Raises ModelError if
    a file is missing or damaged, or if no server answers, and ConfigError if MODEL@URL is malformed.
    """
    if is_endpoint(name):
        return ModelIdentity(f"served {Endpoint.named(name).identity}", None)
    folder = model_folder(name)
    family = require_files(folder)
    codec = identify_codec(folder / CODEC) if family.has_codec else None
    digest = _digest(folder)
    if family is CHAT:
        from kinescribe.models.chat_processor import BACKEND, image_backend  # imports torch

        backend = image_backend(folder)
        digest += "" if backend == BACKEND else f" with {backend}"
    return ModelIdentity(digest, codec)


def usual_likelihoods(name: str) -> Histogram | None:
    """How likely the words of the model called `name` are to it on data like its training data, by its card.

    None for an endpoint, or if the card doesn't say. Raises ModelError if it is damaged.
    """
    return None if is_endpoint(name) else model_card.usual_likelihoods(model_folder(name))


def identify_codec(folder: Path, fit: Fit | None = None) -> CodecIdentity:
    """The identity of the codec in `folder`, with its own fit or another.

    Raises ModelError if the codec is damaged.
    """
    config = codec_config(folder)
    try:
        weights = next(path for name in (CODEC_WEIGHTS, WEIGHTS) if (path := folder / name).is_file())
        tensors = load_file(weights)
        network_id = codec_network_id(config["sample_size"], tensors.items())
        return CodecIdentity(codec_id(network_id, fit or codec_fit(config)), codec_grid(config))
    except (SafetensorError, KeyError, TypeError, OSError, StopIteration) as error:
        raise ModelError(f"the codec in {folder} is damaged: {error!r}; restore it") from error


def codec_config(folder: Path) -> dict[str, Any]:
    """The config.json of the codec in `folder`. Raises ModelError if it is damaged."""
    path = folder / "config.json"
    require_sizes(path)
    config = read_object(path)
    if missing := sorted(CODEC_KEYS - config.keys()):
        raise ModelError(f"{path} lacks {', '.join(missing)}, so it isn't a codec's; restore it")
    for key in sorted(CODEC_KEYS):
        sizes = config[key] if key == BLOCKS else [config[key]]
        if not isinstance(sizes, list) or not sizes or not all(type(s) is int and s > 0 for s in sizes):
            raise ModelError(
                f"{path}: {key} must be a positive whole number, got {config[key]!r:.80}; restore it"
            )
    blocks = config.get("down_block_types", config[BLOCKS])
    if not isinstance(blocks, list) or len(blocks) != len(config[BLOCKS]):
        raise ModelError(f"{path}: down_block_types must have as many entries as {BLOCKS}; restore it")
    if codec_fit(config) not in FITS:
        raise ModelError(f"{path}: fit must be {' or '.join(FITS)}, got {config['fit']!r:.80}; restore it")
    if not 0 < math.prod(codec_grid(config)) <= MAX_CODES or config["num_vq_embeddings"] > MAX_CODEBOOK:
        raise ModelError(
            f"{path}: an image would be {math.prod(codec_grid(config))} codes of "
            f"{config['num_vq_embeddings']}; restore it"
        )
    return config


def codec_fit(config: Mapping[str, Any]) -> Fit:
    """How pictures that aren't square are fitted."""
    return config.get("fit", "crop")


def published_fit(folder: Path) -> Fit:
    """How the authors of the model in `folder` fit pictures; `crop` if the folder has no model."""
    has_model = (folder / "config.json").is_file()
    return family_of(model_config(folder)).fit if has_model else "crop"


def write_fit(folder: Path, fit: Fit) -> None:
    """Say in the config.json of the codec in `folder` how pictures that aren't square are fitted."""
    path = folder / "config.json"
    config = read_object(path)
    if fit != codec_fit(config):
        path.write_text(json.dumps(config | {"fit": fit}, indent=2, sort_keys=True) + "\n")


def codec_grid(config: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) in tokens: each encoder block except the last halves the side."""
    side = config["sample_size"] // patch_side(config) // 2 ** (len(config["block_out_channels"]) - 1)
    return side, side


def patch_side(config: Mapping[str, Any]) -> int:
    """p, if the input channels of the network are p×p patches of RGB pixels."""
    return max(1, math.isqrt(config["in_channels"] // 3))


def codec_network_id(resolution: int, tensors: Iterable[tuple[str, NDArray[np.generic]]]) -> str:
    """Hash of everything that decides the codes of a square: encoder, codebook and resolution."""
    digest = hashlib.blake2b(str(resolution).encode(), digest_size=8)
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        if name.startswith(("encoder.", "quant_conv.", "quantize.")):
            digest.update(name.encode() + tensor.astype(np.float32).tobytes())
    return f"vq-{digest.hexdigest()}"


def _digest(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in files_of(folder):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()
