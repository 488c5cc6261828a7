"""Training of InstructPix2Pix as a world model: its objective, weighted by importance, and its batches.

Images stay compressed until a batch needs them, and the autoencoder runs in the step. Everything random about
a sample is drawn from its position, so that it doesn't depend on how a batch is cut. Shapes: B triplets, H×W
pixels, T tokens, latent images of C channels and h×w places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from numpy.typing import NDArray
from torch import Tensor, nn

from kinescribe.models.checkpoint_files import model_folder
from kinescribe.models.codec import to_pixels
from kinescribe.models.edit_diffusion import EditDiffusion, encode_latents
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.training import Lora, WorldTraining
from kinescribe.storage.stored_image import stored_image
from kinescribe.training.batches import given, mixed_order, read_rows, require_importance, whole
from kinescribe.training.objective import image_weights
from kinescribe.training.tasks import TrainingTask

COLUMNS = ("triplet_id", "source", "target", "action", "finish_reason", "importance")
DROPOUT = 0.05
"""Shares of samples without their action, without their source, and without both, each (Brooks et al. 2023,
§3.2.1)."""
LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
"""The projections of the attention, as in the training scripts of diffusers."""


class EditBatch(NamedTuple):
    """Triplets with the noise that the network should predict, and the weight of each place."""

    source_B3HW: Tensor
    target_B3HW: Tensor
    """float32 in [-1, 1]."""
    source_seen_B: Tensor
    """float32, 1 or 0."""
    ids_BT: Tensor
    """int64; those of an empty action if the sample goes without."""
    noise_BChw: Tensor
    timesteps_B: Tensor
    """int64."""
    weights_Bhw: Tensor
    """float32, mean 1 in each image."""

    @property
    def total_weight(self) -> float:
        """Σ w, this batch's part of the divisor of its step's sums."""
        return float(self.weights_Bhw.sum())


class EditObjective(nn.Module):
    """The module that DeepSpeed wraps: takes a batch, returns sums over its weighted places.

    min_θ  Σ w · (ε − ε_θ(z_t, t, source, action))² / Σ w,  where the square is a mean over channels and θ are
    the weights of the UNet only.
    """

    def __init__(self, model: EditDiffusion) -> None:
        super().__init__()
        pipeline = model.pipeline
        self.unet: Any = pipeline.unet
        self.vae: Any = pipeline.vae.requires_grad_(False)
        self.text_encoder: Any = pipeline.text_encoder.requires_grad_(False)
        self.noising: Any = DDPMScheduler.from_config(pipeline.scheduler.config)

    def forward(self, batch: EditBatch) -> dict[str, Tensor]:
        """`loss` is Σ w·squared error."""
        with torch.no_grad():
            pixels = torch.cat([batch.source_B3HW, batch.target_B3HW])
            source_BChw, target_BChw = encode_latents(self.vae, pixels).chunk(2)
            text_BTD = self.text_encoder(batch.ids_BT)[0]
        # As in the paper, the source's latent image is not scaled to unit variance; the target's is.
        clean_BChw = target_BChw * self.vae.config.scaling_factor
        noisy_BChw = self.noising.add_noise(clean_BChw, batch.noise_BChw, batch.timesteps_B)
        source_seen_BChw = source_BChw * batch.source_seen_B[:, None, None, None]
        predicted_BChw = self.unet(
            torch.cat([noisy_BChw, source_seen_BChw], 1), batch.timesteps_B, text_BTD, return_dict=False
        )[0]
        truth_BChw = batch.noise_BChw
        if self.noising.config.prediction_type == "v_prediction":
            truth_BChw = self.noising.get_velocity(clean_BChw, batch.noise_BChw, batch.timesteps_B)
        squared_Bhw = (predicted_BChw.float() - truth_BChw).square().mean(1)
        return {"loss": (batch.weights_Bhw * squared_Bhw).sum()}


def read_edits(datasets: Sequence[str], select: str | None = None) -> pa.Table:
    """Images, action and importance of every triplet, in order. Raises as `read_rows` does."""
    return whole(read_rows(datasets, COLUMNS, select))


class EditBatches:
    """Batches of triplets. Three shares of `dropout` go without the action, the source, and both.

    Places of the target are weighted by importance with a floor; if `floor` is None, all have weight 1.
    """

    def __init__(
        self, table: pa.Table, model: EditDiffusion, floor: float | None, dropout: float, seed: int
    ) -> None:
        require_importance(not table["importance"].null_count, floor)
        self.table = table
        self.model = model
        self.floor = floor
        self.dropout = dropout
        self.seed = seed
        self.num_timesteps: int = model.pipeline.scheduler.config.num_train_timesteps

    def __len__(self) -> int:
        return len(self.table)

    def batch(self, samples: Sequence[int], positions: Sequence[int]) -> EditBatch:
        """The samples, each with the random numbers of its position."""
        rows: list[dict[str, Any]] = self.table.take([*samples]).to_pylist()
        randoms = [np.random.Generator(np.random.Philox(key=[self.seed, position])) for position in positions]
        # The first share goes without its action, the second without both, the third without its source.
        share = np.digitize([random.random() for random in randoms], self.dropout * np.arange(1, 4))
        actions = [row["action"] if seen else "" for row, seen in zip(rows, share >= 2, strict=True)]
        noise = [random.standard_normal(self.model.latent_shape, np.float32) for random in randoms]
        timesteps = [int(random.integers(self.num_timesteps)) for random in randoms]
        return EditBatch(
            self._pixels(rows, "source"),
            self._pixels(rows, "target"),
            torch.from_numpy((share == 0) | (share == 3)).float(),
            self.model.token_ids(actions),
            torch.from_numpy(np.stack(noise)),
            torch.tensor(timesteps),
            torch.from_numpy(np.stack([self._weights(row["importance"]) for row in rows])),
        )

    def _pixels(self, rows: Sequence[dict[str, Any]], column: str) -> Tensor:
        images = [stored_image(row[column]["bytes"]) for row in rows]
        return to_pixels(images, self.model.resolution)

    def _weights(self, importance: list[float] | None) -> NDArray[np.float32]:
        size = self.model.latent_shape[1:]
        if self.floor is None:
            return np.ones(size, np.float32)
        return image_weights(resized(np.asarray(importance, np.float32), size), self.floor)


def resized(importance_L: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Importance on a grid of `size` (h, w): means over the tokens of a square grid that a place covers."""
    side = math.isqrt(len(importance_L))
    grid_11hw = torch.from_numpy(importance_L).view(1, 1, side, side)
    return F.interpolate(grid_11hw, size, mode="area")[0, 0].numpy()


class Adapters:
    """The trained parts of an editor with LoRA: adapters of the attention, and the whole weight of
    `conv_in`."""

    def __init__(self, model: EditDiffusion, lora: Lora) -> None:
        from peft import LoraConfig

        self.pipeline = model.pipeline
        self.unet = unet = model.pipeline.unet
        self.before: Tensor = unet.conv_in.weight.detach().clone()
        unet.requires_grad_(False)
        unet.add_adapter(
            LoraConfig(
                r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=LORA_TARGETS
            )
        )
        unet.conv_in.weight.requires_grad_(True)

    def save(self, folder: Path) -> None:
        """Write one file that diffusers' `load_lora_weights` opens.

        The change of `conv_in` is stored exactly, as an adapter of full rank: its first part passes the
        patches of the input, its second is the change.
        """
        from peft import get_peft_model_state_dict

        change = self.unet.conv_in.weight.detach().cpu() - self.before
        rank = change[0].numel()
        tensors: dict[str, Any] = get_peft_model_state_dict(self.unet)
        tensors["conv_in.lora_A.weight"] = torch.eye(rank).view(rank, *change.shape[1:])
        tensors["conv_in.lora_B.weight"] = change.reshape(len(change), rank, 1, 1)
        config = self.unet.peft_config["default"].to_dict()
        config |= {"rank_pattern": {"conv_in": rank}, "alpha_pattern": {"conv_in": rank}}
        # diffusers leaves loaded adapters in training mode, in which dropout would apply.
        config |= {"target_modules": [*LORA_TARGETS, "conv_in"], "lora_dropout": 0.0}
        self.pipeline.save_lora_weights(folder, tensors, unet_lora_adapter_metadata=config)

    def merge(self) -> None:
        """Merge the adapters, which leaves a plain UNet."""
        self.unet.fuse_lora()
        self.unet.unload_lora()


class EditTask(TrainingTask):
    """Trains an image editor as a world model on the images, actions and importance of datasets."""

    def __init__(self, config: WorldTraining, device: torch.device | None = None) -> None:
        assert config.init is not None
        if config.new_image_head:
            raise ConfigError(f"new_image_head: {config.init} has no head of image codes; leave it out")
        self.model = EditDiffusion.load(model_folder(config.init), device=device)
        self.module = EditObjective(self.model)
        self.adapters = Adapters(self.model, config.lora) if config.lora else None
        rows = read_edits(config.data, config.select)
        self.batches = EditBatches(rows, self.model, config.floor, DROPOUT, config.seed)
        self.order = mixed_order(given(rows), config, config.mix)
        self.held_out = (
            EditBatches(read_edits(config.held_out), self.model, config.floor, 0.0, config.seed)
            if config.held_out
            else None
        )

    def export(self, folder: Path) -> None:
        """Write a pipeline that diffusers opens. With LoRA, it is merged; `adapter/` holds the adapter
        alone."""
        if self.adapters:
            self.adapters.save(folder / "adapter")
            self.adapters.merge()
        self.model.save(folder)
