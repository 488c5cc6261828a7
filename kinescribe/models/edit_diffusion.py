"""InstructPix2Pix (Brooks et al. 2023) of diffusers as a world model: it edits an image by an instruction.

Works on latent images of its own autoencoder. Knows nothing of datasets or of training. Shapes: B images, H×W
pixels, latent images of C channels and h×w places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from kinescribe.models.checkpoint_files import quiet_progress, require_files
from kinescribe.models.codec import to_images, to_pixels
from kinescribe.models.dynamics import network_details
from kinescribe.models.families import EDIT
from kinescribe.models.opening import MAX_SIDE, opened, opening, require_weights
from kinescribe.models.sampling import sample_seeds
from kinescribe.models.tokenizer_check import require_tokenizer
from kinescribe.models.tokens import Task, knows_a_word
from kinescribe.models.world import WorldModel
from kinescribe.schemas.config import Attention
from kinescribe.schemas.errors import ConfigError, ModelError


class EditDiffusion(WorldModel):
    """A `StableDiffusionInstructPix2PixPipeline`, with its default steps and guidance."""

    does = EDIT.does

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.tokenizer = pipeline.tokenizer
        pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def load(
        cls,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        attention: Attention = "auto",
    ) -> Self:
        """The pipeline in `folder`, with its autoencoder in float32 and without the safety checker.

        On the meta device no weights are read. diffusers chooses the attention. Reads safetensors only and
        runs no code. Raises ModelError.
        """
        # Imported here, because it takes long and only loading an editor needs it.
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix import (
            StableDiffusionInstructPix2PixPipeline,
        )

        if (family := require_files(folder)) is not EDIT:
            raise ModelError(f"{folder} is {family.noun}, not an image editor; name an image editor")
        if (tokenizer := folder / "tokenizer" / "tokenizer.json").is_file():
            require_tokenizer(tokenizer)
        with quiet_progress("diffusers"), opening(folder):
            pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
                folder,
                **_networks(folder, device, dtype),
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
                dtype={"vae": torch.float32, "default": dtype},
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
            )
            if device != torch.device("meta"):
                require_weights(folder / "unet", pipeline.unet)
                require_weights(folder / "vae", pipeline.vae)
            model = cls(pipeline if device is None else pipeline.to(device))
            if not 0 < model.resolution <= MAX_SIDE or min(model.latent_shape) < 1:
                raise ModelError(
                    f"{folder} draws images of {model.resolution} pixels; restore its config.json"
                )
            num_positions = pipeline.text_encoder.config.max_position_embeddings
            if not 0 < model.tokenizer.model_max_length <= num_positions:
                raise ModelError(
                    f"{folder}: model_max_length of its tokenizer must be 1 to {num_positions}; restore it"
                )
            model.token_ids([""])  # so that a wrong tokenizer fails here
            return model

    def save(self, folder: Path) -> None:
        """Write the pipeline as `load` reads it."""
        with quiet_progress("transformers", "diffusers"):
            self.pipeline.save_pretrained(folder)

    def details(self) -> list[str]:
        """The resolution, and the UNet's size and placement."""
        return [f"{self.resolution} pixels", *network_details(self.pipeline.unet)]

    @property
    def codec_id(self) -> None:
        """None: latent images are not codes."""

    @property
    def resolution(self) -> int:
        """See `WorldModel.resolution`."""
        return self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        side = self.pipeline.unet.config.sample_size
        return self.pipeline.vae.config.latent_channels, side, side

    def takes(self, task: Task, action: str) -> bool:
        """Whether the text encoder has a position for every token of the action."""
        return len(self.tokenizer(action).input_ids) <= self.tokenizer.model_max_length

    def knows_a_word(self, action: str) -> bool:
        """See `ActionModel.knows_a_word`."""
        return knows_a_word(self.tokenizer, action)

    def token_ids(self, actions: list[str]) -> torch.Tensor:
        """int64 of shape (B, T), padded in the way that the text encoder was trained with."""
        options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        return self.tokenizer(actions, max_length=self.tokenizer.model_max_length, **options).input_ids

    @torch.inference_mode()
    def encode(self, image: Image.Image) -> NDArray[np.float32]:
        """A latent image of shape (C, h, w)."""
        vae = self.pipeline.vae
        return encode_latents(vae, to_pixels([image], self.resolution).to(vae.device))[0].cpu().numpy()

    @torch.inference_mode()
    def imagine(
        self, source: NDArray[Any], action: str, num_samples: int, seed: int, temperature: float = 1.0
    ) -> NDArray[np.float32]:
        """Latent images of shape (num_samples, C, h, w). Raises ConfigError if the temperature isn't 1.

        Up to rounding, sample i doesn't depend on `num_samples`.
        """
        if temperature != 1:
            raise ConfigError(f"temperature: a diffusion model has none, got {temperature}; leave it out")
        latents_NChw = self.pipeline(
            prompt=[action] * num_samples,
            image=torch.from_numpy(source).expand(num_samples, -1, -1, -1),
            generator=[torch.Generator().manual_seed(sample) for sample in sample_seeds(seed, num_samples)],
            output_type="latent",
        ).images
        return (latents_NChw.float() / self.pipeline.vae.config.scaling_factor).cpu().numpy()

    @torch.inference_mode()
    def pictures(self, frames_N: NDArray[Any]) -> list[Image.Image]:
        """See `WorldModel.pictures`."""
        vae = self.pipeline.vae
        return to_images(vae.decode(torch.from_numpy(frames_N).to(vae.device)).sample)


def _networks(folder: Path, device: torch.device | None, dtype: torch.dtype) -> dict[str, Any]:
    """The parts of the pipeline that diffusers is not to open itself: on the meta device, all networks."""
    if device != torch.device("meta"):
        return {"text_encoder": opened(CLIPTextModel, folder / "text_encoder", dtype=dtype)}
    with torch.device("meta"):
        networks: dict[str, Any] = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}
        for name, network in networks.items():
            networks[name] = network.from_config(network.load_config(folder / name, local_files_only=True))
        text = CLIPTextConfig.from_pretrained(folder / "text_encoder", local_files_only=True)
        return networks | {"text_encoder": CLIPTextModel(text)}


def encode_latents(vae: AutoencoderKL, pixels_B3HW: torch.Tensor) -> torch.Tensor:
    """The modes of the latent distributions of images in [-1, 1], float32 (B, C, h, w), not scaled."""
    with torch.autocast(pixels_B3HW.device.type, enabled=False):
        encoded: Any = vae.encode(pixels_B3HW)
        return encoded.latent_dist.mode()
