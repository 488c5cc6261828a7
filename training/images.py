"""Images of a labelled dataset as pixel batches for the codec: random crops and flips.

Everything random about a sample depends only on seed and position, not on the number of workers.
Shapes: B images of 3 channels, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from kinescribe.storage.dataset import Dataset
from kinescribe.storage.stored_image import stored_image


class PixelBatch(NamedTuple):
    """Images in [-1, 1]."""

    pixels_B3HW: Tensor
    """float32."""

    @property
    def total_weight(self) -> float:
        """The number of images: each has weight 1."""
        return float(len(self.pixels_B3HW))


def read_images(datasets: Sequence[str]) -> pa.Array:
    """The stored bytes of every distinct source and target, in order."""
    tables = [Dataset.open(dataset).scan(["source", "target"]).to_table() for dataset in datasets]
    chunks = [chunk for table in tables for column in table.columns for chunk in column.chunks]
    return pa.chunked_array([chunk.field("bytes") for chunk in chunks], pa.binary()).unique()


class ImageBatches:
    """Random square crops of stored images at the codec's resolution, half of them flipped."""

    def __init__(self, images: pa.Array, resolution: int, crop_scale: float | None, seed: int) -> None:
        self.images = images
        self.resolution = resolution
        self.crop_scale = crop_scale
        """The smallest crop; None uses the central square of each image, as labelling does."""
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, samples: Sequence[int], positions: Sequence[int]) -> PixelBatch:
        """The samples, each cropped by the random numbers of its position."""
        views = [self._view(*item) for item in zip(samples, positions, strict=True)]
        pixels_B3HW = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float() / 127.5 - 1
        return PixelBatch(pixels_B3HW.contiguous())

    def _view(self, sample: int, position: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
        image = stored_image(self.images[sample].as_py(), (2 * self.resolution, 2 * self.resolution))
        random = np.random.Generator(np.random.Philox(key=[self.seed, position]))
        side = float(min(image.size))
        left, top = (image.width - side) / 2, (image.height - side) / 2
        flip = False
        if self.crop_scale is not None:
            side *= random.uniform(self.crop_scale, 1)
            left, top = random.uniform(0, image.width - side), random.uniform(0, image.height - side)
            flip = random.random() < 0.5
        box = (left, top, left + side, top + side)
        view = image.resize((self.resolution, self.resolution), Image.Resampling.BICUBIC, box=box)
        return np.asarray(view)[:, ::-1].copy() if flip else np.asarray(view)
