"""Converts the image codecs of published checkpoints to the `codec/` folder of a model.

Chameleon, Anole and Liquid share Meta's VQGAN, which is a `VQModel` of diffusers with other tensor names;
Emu3 has its own. All names and shapes must match. Knows nothing of language models.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import ChameleonVQVAEConfig, Emu3VQVAE, Emu3VQVAEConfig

from kinescribe.models.checkpoint_files import model_config, weight_files
from kinescribe.models.codec import Emu3Codec, ImageCodec, VQModel
from kinescribe.models.folder_files import require_own_files
from kinescribe.models.opening import opening
from kinescribe.schemas.errors import ModelError

VQGAN_PARTS = ("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv.")
"""The tensors of the codec in Meta's layout, which also has those of the training."""
Tensors = dict[str, torch.Tensor]


class VqganShape(NamedTuple):
    """The sizes of a VQGAN in Meta's layout."""

    resolution: int
    channels: tuple[int, ...]
    layers_per_block: int
    latent_channels: int
    vq_embed_dim: int
    num_codes: int


def published_codec(source: Path) -> ImageCodec:
    """The codec of a published checkpoint, with encoder and decoder.

    `source` is Meta's `vqgan.ckpt` (or .safetensors) with `vqgan.yaml` beside it, or a folder of Anole or
    Emu3 for transformers. Raises ModelError if it is none of these, or if tensors are missing or left over.
    """
    folder = source if source.is_dir() else source.parent
    with opening(folder):
        if source != folder:
            return _vqgan(_read_vqgan(source), _shape_of_yaml(source.with_suffix(".yaml")), source)
        require_own_files(folder)
        config = model_config(source)
        kinds = {"chameleon": _of_chameleon, "emu3": _of_emu3}
        if (kind := kinds.get(str(config.get("model_type")))) is None:
            raise ModelError(f"{source} is neither Chameleon nor Emu3; give Meta's vqgan.ckpt instead")
        return kind(source, config.get("vq_config") or {})


def _of_chameleon(folder: Path, settings: Mapping[str, Any]) -> ImageCodec:
    tensors = _vqmodel_tensors(folder)
    if not any(name.startswith("decoder.") for name in tensors):
        raise ModelError(f"{folder} has an image encoder but no decoder; give Meta's vqgan.ckpt instead")
    config = ChameleonVQVAEConfig(**settings)
    shape = VqganShape(
        config.resolution,
        tuple(config.base_channels * factor for factor in config.channel_multiplier),
        config.num_res_blocks,
        config.latent_channels,
        config.embed_dim,
        config.num_embeddings,
    )
    return _vqgan(tensors, shape, folder)


def _of_emu3(folder: Path, settings: Mapping[str, Any]) -> ImageCodec:
    config = Emu3VQVAEConfig(**settings)
    processor = _json_or_yaml(folder / "preprocessor_config.json")
    try:
        config.image_mean, config.image_std = processor["image_mean"], processor["image_std"]
        # The smallest square that the model was trained for: as published, 512 × 512 pixels, 4,096 codes.
        config.sample_size = math.isqrt(processor["min_pixels"])
    except KeyError as error:
        raise ModelError(f"{folder}/preprocessor_config.json lacks {error}; download it again") from error
    # The keys that `checkpoint_files.py` reads of any codec.
    config.num_vq_embeddings = config.codebook_size
    config.block_out_channels = [config.base_channels * factor for factor in config.channel_multiplier]
    network = Emu3VQVAE(config)
    _load_strictly(network, _vqmodel_tensors(folder), folder)
    return Emu3Codec(network)


def _vqgan(tensors: Tensors, shape: VqganShape, source: Path) -> ImageCodec:
    depth = len(shape.channels)
    network = VQModel(
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=shape.channels,
        layers_per_block=shape.layers_per_block,
        latent_channels=shape.latent_channels,
        sample_size=shape.resolution,
        num_vq_embeddings=shape.num_codes,
        vq_embed_dim=shape.vq_embed_dim,
    )
    try:
        renamed = convert_ldm_vae_checkpoint(tensors, network.config)
    except KeyError as error:
        raise ModelError(f"{source} is not a complete VQGAN: it lacks {error}") from error
    renamed["quantize.embedding.weight"] = tensors.get("quantize.embedding.weight")
    if len(renamed) != len(tensors):
        raise ModelError(f"{source} is not a VQGAN: it has {len(tensors) - len(renamed)} unknown tensors")
    _load_strictly(network, renamed, source)
    return ImageCodec(network)


def _load_strictly(network: torch.nn.Module, tensors: Tensors, source: Path) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"the codec of {source} doesn't match its configuration: {error}") from error


def _read_vqgan(path: Path) -> Tensors:
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except pickle.UnpicklingError as error:  # its text advises to let the file run code
        raise ModelError(
            f"{path} is not a VQGAN: it contains other objects than tensors; give its vqgan.ckpt"
        ) from error
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not a VQGAN in Meta's layout: {error!r}; give its vqgan.ckpt") from error
    return {name: tensor for name, tensor in tensors.items() if name.startswith(VQGAN_PARTS)}


def _shape_of_yaml(path: Path) -> VqganShape:
    try:
        settings = _json_or_yaml(path)["model"]["params"]
        network = settings["ddconfig"]
        return VqganShape(
            network["resolution"],
            tuple(network["ch"] * factor for factor in network["ch_mult"]),
            network["num_res_blocks"],
            network["z_channels"],
            settings["embed_dim"],
            settings["n_embed"],
        )
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{path} is not the vqgan.yaml that comes with Meta's vqgan.ckpt: {error!r}"
        ) from error


def _vqmodel_tensors(folder: Path) -> Tensors:
    """The tensors of the codec inside a model's checkpoint, by their names in the codec."""
    codec_tensors: Tensors = {}
    for file in weight_files(folder):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                if own := name.partition("vqmodel.")[2]:
                    codec_tensors[own] = tensors.get_tensor(name)
    return codec_tensors


def _json_or_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())  # JSON is YAML
    except (OSError, yaml.YAMLError) as error:
        raise ModelError(f"{path} cannot be read: {error}; download it again") from error
