"""The image codec: images to VQ codes and back, and the recognition model built on it.

Knows nothing of text, of video or of training. Shapes: B images, H×W pixels, a grid of h×w tokens,
L = h·w tokens in row-major order, C channels of a feature.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from kinescribe.models.checkpoint_files import (
    codec_config,
    codec_fit,
    codec_grid,
    codec_network_id,
    patch_side,
    require_whole,
    write_fit,
)
from kinescribe.models.fitting import fitted
from kinescribe.models.opening import opened, opening, require_weights
from kinescribe.schemas.codes import Fit, codec_id
from kinescribe.schemas.errors import ModelError

if TYPE_CHECKING:
    from transformers import Emu3VQVAE

DISTANCES_AT_ONCE = 1 << 28
"""Distances from features to codebook entries in memory at once: one gigabyte."""


@contextmanager
def _without_package_imports(*packages: str) -> Generator[None]:
    """Import single modules of packages whose `__init__` would import all of their modules.

    diffusers has one module per architecture, and importing them all takes a second at the start of every
    label actor. The packages are imported as usual when something else needs them.
    """
    missing = [package for package in packages if package not in sys.modules]
    for package in missing:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        for package in missing:
            del sys.modules[package]


with _without_package_imports(
    "diffusers.models.autoencoders", "diffusers.models.unets", "diffusers.models.transformers"
):
    from diffusers.models.autoencoders.vq_model import VQModel


class Encoded(NamedTuple):
    """The output of the encoder for B images."""

    codes_BL: torch.Tensor
    """int64, the index of the nearest codebook entry."""
    features_BLC: torch.Tensor
    """float32, the encoder's output before quantisation."""

    @property
    def stored_BL(self) -> NDArray[np.uint16]:
        """The codes in the form in which datasets store them."""
        return self.codes_BL.cpu().numpy().astype(np.uint16)


class ImageCodec:
    """A VQ autoencoder (diffusers' `VQModel`) at a fixed square resolution, always in float32.

    bfloat16 would change 2–4 % of the codes. A network with 3·p² input channels takes p×p patches of pixels
    as channels, which makes a small codec several times faster.
    """

    def __init__(self, network: Any, config: Mapping[str, Any] | None = None) -> None:
        """`config` replaces `network.config` if the network is not a `VQModel`."""
        self.network = network.float().eval()
        settings: Mapping[str, Any] = network.config if config is None else config
        self.resolution: int = settings["sample_size"]
        self.grid = codec_grid(settings)
        self.num_codes: int = settings["num_vq_embeddings"]
        self.fit: Fit = "crop"
        self._network_id: str | None = None

    def __repr__(self) -> str:
        """The sizes of images and codes, and where the network runs."""
        height, width = self.grid
        return (
            f"ImageCodec({self.resolution}×{self.resolution} pixels in {height}×{width} codes of "
            f"{self.num_codes:,}; {self.device})"
        )

    @staticmethod
    def load(folder: Path) -> ImageCodec:
        """The codec that `save` or `save_pretrained` wrote to `folder`. Reads safetensors only."""
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} has no codec: config.json is missing; name a VQModel folder")
        for weights in folder.glob("*.safetensors"):
            require_whole(weights)
        config = codec_config(folder)
        with opening(folder):
            if config.get("model_type") == "emu3_vqgan":
                from transformers import Emu3VQVAE  # only for this codec, since it is a large module

                codec = Emu3Codec(opened(Emu3VQVAE, folder))
            else:
                network: Any = VQModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
                require_weights(folder, network)
                codec = ImageCodec(network)
        codec.fit = codec_fit(config)
        return codec

    def save(self, folder: Path) -> None:
        """Write the network in its library's own layout, and the fit to its config.json."""
        self.network.save_pretrained(folder, safe_serialization=True)
        write_fit(folder, self.fit)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        # diffusers' own `device` and `to` import its hooks, and those peft: half a second.
        return self.network.quantize.embedding.weight.device

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        if device != self.device:
            self.network.to(device)

    @property
    def id(self) -> str:
        """Hash of everything that decides the codes: encoder, codebook and resolution, and the fit."""
        if self._network_id is None:
            tensors = ((name, tensor.cpu().numpy()) for name, tensor in self.network.state_dict().items())
            self._network_id = codec_network_id(self.resolution, tensors)
        return codec_id(self._network_id, self.fit)

    def preprocess(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """pixels_B3HW, float32 in [-1, 1]: the images as squares of side `resolution`."""
        return to_pixels(images, self.resolution, self.fit)

    @torch.inference_mode()
    def encode(self, pixels_B3HW: torch.Tensor) -> Encoded:
        """Codes and pre-quantised features of images in [-1, 1]."""
        features_BLC = self._latents(pixels_B3HW.to(self.device)).flatten(2).transpose(1, 2)
        codebook_1KC = self.network.quantize.embedding.weight[None]
        at_once = max(1, DISTANCES_AT_ONCE // (features_BLC.shape[1] * self.num_codes))
        parts = [torch.cdist(part, codebook_1KC).argmin(-1) for part in features_BLC.split(at_once)]
        return Encoded(torch.cat(parts), features_BLC)

    @torch.inference_mode()
    def decode(self, codes_BL: torch.Tensor) -> torch.Tensor:
        """pixels_B3HW in [-1, 1] from codes."""
        return self._pixels(codes_BL.to(self.device)).clamp(-1, 1)

    def _latents(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Pre-quantised features, (B, C, h, w)."""
        return encode_latents(self.network, pixels_B3HW)

    def _pixels(self, codes_BL: torch.Tensor) -> torch.Tensor:
        """pixels_B3HW, not clamped."""
        channels = self.network.quantize.vq_embed_dim
        shape = (len(codes_BL), *self.grid, channels)
        entries_NC = self.network.quantize.embedding(codes_BL.flatten())
        latents_BChw = entries_NC.view(shape).permute(0, 3, 1, 2).contiguous()
        return decode_latents(self.network, latents_BChw)

    def pictures(self, codes_BL: NDArray[np.uint16]) -> list[Image.Image]:
        """The images of codes in the form in which datasets store them."""
        return to_images(self.decode(torch.from_numpy(codes_BL.astype(np.int64))))

    @staticmethod
    def importance(source_BLC: torch.Tensor, target_BLC: torch.Tensor) -> torch.Tensor:
        """weights_BL: squared L2 distance of pre-quantised features (arXiv:2506.06006), not normalised."""
        return (source_BLC - target_BLC).square().sum(-1)


class Emu3Codec(ImageCodec):
    """Emu3's video codec (transformers' `Emu3VQVAE`) for single images, repeated as a still video.

    `codec_conversion.py` adds the keys of a VQModel to its config.json, and the normalisation of pixels:
    `image_mean` and `image_std` for RGB in [0, 1].
    """

    def __init__(self, network: Emu3VQVAE) -> None:
        config = network.config.to_dict()
        super().__init__(network, config)
        mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
        self.shift, self.scale = 2 * mean - 1, 2 * std

    def _latents(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        normal_B3HW = (pixels_B3HW - self.shift.to(pixels_B3HW)) / self.scale.to(pixels_B3HW)
        num_frames = self.network.config.temporal_downsample_factor
        hidden_B1Chw = self.network.encoder(normal_B3HW[:, None].repeat(1, num_frames, 1, 1, 1))
        return self.network.quant_conv(hidden_B1Chw.transpose(1, 2))[:, :, 0]

    def _pixels(self, codes_BL: torch.Tensor) -> torch.Tensor:
        normal_B3HW = self.network.decode(codes_BL.view(-1, *self.grid))
        return normal_B3HW * self.scale.to(normal_B3HW) + self.shift.to(normal_B3HW)


def encode_latents(network: VQModel, pixels_B3HW: torch.Tensor) -> torch.Tensor:
    """Pre-quantised features (B, C, h, w) of images in [-1, 1]; differentiable."""
    return network.encode(F.pixel_unshuffle(pixels_B3HW, patch_side(network.config))).latents


def decode_latents(network: VQModel, latents_BChw: torch.Tensor) -> torch.Tensor:
    """pixels_B3HW from quantised features; differentiable and not clamped."""
    patches = network.decode(latents_BChw, force_not_quantize=True, return_dict=False)[0]
    return F.pixel_shuffle(patches, patch_side(network.config))


def to_pixels(images: Sequence[Image.Image], side: int, fit: Fit = "crop") -> torch.Tensor:
    """pixels_B3HW, float32 in [-1, 1], of the images as squares."""
    array_BHW3 = np.stack([np.asarray(fitted(image, side, fit)) for image in images])
    return torch.from_numpy(array_BHW3).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels_B3HW: torch.Tensor) -> list[Image.Image]:
    """PIL images from pixels in [-1, 1]."""
    array_BHW3 = ((pixels_B3HW.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(image) for image in array_BHW3]
