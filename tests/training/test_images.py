import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from kinescribe.models.codec import ImageCodec
from kinescribe.training.images import ImageBatches, read_images
from tests.tiny_vlm import tiny_vlm


@pytest.fixture
def images() -> pa.Array:
    """A landscape whose left third is red, the rest blue."""
    picture = Image.new("RGB", (96, 48), "blue")
    picture.paste("red", (0, 0, 32, 48))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return pa.array([buffer.getvalue()])


def pixels(images: pa.Array, crop_scale: float | None, positions: range, seed: int = 0) -> torch.Tensor:
    batches = ImageBatches(images, 16, crop_scale, seed)
    return batches.batch([0] * len(positions), positions).pixels_B3HW


def test_sources_and_targets_are_read_once_each(dataset: str):
    images = read_images([dataset, dataset])
    assert len(images) == len(set(images.to_pylist())) == 48


def test_a_batch_is_pixels_between_minus_one_and_one(images: pa.Array):
    batch = pixels(images, 0.5, range(8))
    assert batch.shape == (8, 3, 16, 16)
    assert batch.dtype == torch.float32
    assert batch.min() >= -1
    assert batch.max() <= 1


def test_a_crop_depends_only_on_seed_and_position(images: pa.Array):
    whole = pixels(images, 0.5, range(8))
    torch.testing.assert_close(pixels(images, 0.5, range(4, 8)), whole[4:])
    assert not torch.equal(pixels(images, 0.5, range(8), seed=1), whole)
    assert len({tuple(view.flatten().tolist()) for view in whole}) > 2


def test_crops_are_flipped_half_of_the_time(images: pa.Array):
    whole_width = pixels(images, 1.0, range(200))
    red_NW = (whole_width[:, 0] > 0).float().mean(1)
    leaning = red_NW[:, 0] - red_NW[:, -1]
    assert 20 < (leaning > 0).sum() < 180
    assert 20 < (leaning < 0).sum() < 180


def test_without_augmentation_it_is_the_codecs_own_view():
    codec: ImageCodec = tiny_vlm().codec
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    batches = ImageBatches(pa.array([buffer.getvalue()]), codec.resolution, None, 0)
    torch.testing.assert_close(batches.batch([0], [0]).pixels_B3HW, codec.preprocess([picture]))
