"""The image codec: images to VQ codes and back, and the recognition model that comes with it.

Knows nothing of text, of video or of training. Shapes: B images, H×W pixels, a grid of h×w tokens,
L = h·w tokens in row-major order, C channels of a feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vq_model import VQModel
from numpy.typing import NDArray
from PIL import Image

from models.identity import codec_config, codec_grid, codec_id, patch_side
from schemas.errors import ModelError


class Encoded(NamedTuple):
    """What one pass of the encoder gives for B images."""

    codes_BL: torch.Tensor
    """int64, index of the nearest codebook entry."""
    features_BLC: torch.Tensor
    """float32, the encoder's output before quantisation (METHOD §3)."""

    @property
    def stored_BL(self) -> NDArray[np.uint16]:
        """The codes as datasets hold them."""
        return self.codes_BL.cpu().numpy().astype(np.uint16)


class ImageCodec:
    """A VQ autoencoder (diffusers' `VQModel`) at a fixed square resolution, kept in float32.

    float32 always: bfloat16 changes 2–4 % of the codes. A network of 3·p² input channels is given p×p
    patches of pixels as channels, which makes a small codec several times faster.
    """

    def __init__(self, network: VQModel) -> None:
        self.network = network.float().eval()
        config = network.config
        self.resolution: int = config["sample_size"]
        self.grid = codec_grid(config)
        self.num_codes: int = config["num_vq_embeddings"]
        self._id: str | None = None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The codec that `save` (or diffusers' `save_pretrained`) wrote to `folder`; safetensors only."""
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} holds no codec: config.json is missing; name a VQModel folder")
        codec_config(folder)
        return cls(VQModel.from_pretrained(folder, use_safetensors=True, local_files_only=True))

    def save(self, folder: Path) -> None:
        """Write the network in diffusers' own layout."""
        self.network.save_pretrained(folder, safe_serialization=True)

    @property
    def id(self) -> str:
        """Hash of what decides the codes: encoder, codebook and resolution."""
        if self._id is None:
            tensors = self.network.state_dict().items()
            self._id = codec_id(self.resolution, ((name, tensor.cpu().numpy()) for name, tensor in tensors))
        return self._id

    def preprocess(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """pixels_B3HW, float32 in [-1, 1]: the shorter side resized to `resolution`, centre cropped."""
        array_BHW3 = np.stack([np.asarray(crop_square(image, self.resolution)) for image in images])
        return torch.from_numpy(array_BHW3).permute(0, 3, 1, 2).float() / 127.5 - 1

    @torch.inference_mode()
    def encode(self, pixels_B3HW: torch.Tensor) -> Encoded:
        """Codes and pre-quantised features of images in [-1, 1]."""
        latents_BChw = encode_latents(self.network, pixels_B3HW.to(self.network.device))
        features_BLC = latents_BChw.flatten(2).transpose(1, 2)
        distances_BLK = torch.cdist(features_BLC, self.network.quantize.embedding.weight[None])
        return Encoded(distances_BLK.argmin(-1), features_BLC)

    @torch.inference_mode()
    def decode(self, codes_BL: torch.Tensor) -> torch.Tensor:
        """pixels_B3HW in [-1, 1] from codes."""
        channels = self.network.quantize.vq_embed_dim
        shape = (len(codes_BL), *self.grid, channels)
        entries_NC = self.network.quantize.embedding(codes_BL.to(self.network.device).flatten())
        latents_BChw = entries_NC.view(shape).permute(0, 3, 1, 2).contiguous()
        return decode_latents(self.network, latents_BChw).clamp(-1, 1)

    def pictures(self, codes_BL: NDArray[np.uint16]) -> list[Image.Image]:
        """The images of codes as datasets hold them."""
        return to_images(self.decode(torch.from_numpy(codes_BL.astype(np.int64))))

    @staticmethod
    def importance(source_BLC: torch.Tensor, target_BLC: torch.Tensor) -> torch.Tensor:
        """weights_BL: squared L2 distance of the pre-quantised features (METHOD §3), not normalised."""
        return (source_BLC - target_BLC).square().sum(-1)


def encode_latents(network: VQModel, pixels_B3HW: torch.Tensor) -> torch.Tensor:
    """Pre-quantised features (B, C, h, w) of images in [-1, 1]; differentiable."""
    return network.encode(F.pixel_unshuffle(pixels_B3HW, patch_side(network.config))).latents


def decode_latents(network: VQModel, latents_BChw: torch.Tensor) -> torch.Tensor:
    """pixels_B3HW from quantised features; differentiable, and not clamped."""
    patches = network.decode(latents_BChw, force_not_quantize=True, return_dict=False)[0]
    return F.pixel_shuffle(patches, patch_side(network.config))


def crop_square(image: Image.Image, side: int) -> Image.Image:
    """The codec's view of an image: shorter side resized to `side`, then the centre square, RGB."""
    width, height = image.size
    scale = side / min(width, height)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return image.convert("RGB").crop((left, top, left + side, top + side))


def to_images(pixels_B3HW: torch.Tensor) -> list[Image.Image]:
    """PIL images from pixels in [-1, 1]."""
    array_BHW3 = ((pixels_B3HW.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(image) for image in array_BHW3]
