from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinescribe.models.checkpoint_files import codec_grid
from kinescribe.models.codec import ImageCodec, crop_square, to_images
from kinescribe.models.initialization import new_codec
from kinescribe.schemas.errors import ModelError


@pytest.fixture(scope="module")
def codec() -> ImageCodec:
    torch.manual_seed(0)
    return new_codec(resolution=32, patch=2, channels=(8, 16), num_codes=32, dims=4)


def pictures(num: int, size: tuple[int, int] = (32, 32)) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)) for _ in range(num)]


def test_every_cell_of_the_grid_has_a_code_and_a_feature(codec: ImageCodec):
    encoded = codec.encode(codec.preprocess(pictures(3)))
    assert codec.grid == codec_grid(codec.network.config) == (8, 8)
    assert encoded.codes_BL.shape == (3, 64)
    assert encoded.features_BLC.shape == (3, 64, 4)
    assert codec.decode(encoded.codes_BL).shape == (3, 3, 32, 32)


def test_codes_are_those_of_diffusers_own_quantizer(codec: ImageCodec):
    pixels = codec.preprocess(pictures(2))
    latents = codec.encode(pixels).features_BLC.transpose(1, 2).reshape(2, 4, 8, 8)
    _, _, (_, _, indices) = codec.network.quantize(latents.clone())
    assert codec.encode(pixels).codes_BL.flatten().tolist() == indices.tolist()


def test_features_without_patches_are_diffusers_own_latents():
    codec = new_codec(resolution=32, patch=1, channels=(8, 16), num_codes=8, dims=4)
    pixels = codec.preprocess(pictures(2))
    with torch.no_grad():
        latents = codec.network.encode(pixels).latents
    torch.testing.assert_close(codec.encode(pixels).features_BLC, latents.flatten(2).transpose(1, 2))


def test_the_codes_of_an_image_do_not_depend_on_the_batch(codec: ImageCodec):
    pixels = codec.preprocess(pictures(5))
    assert codec.encode(pixels).codes_BL[3].tolist() == codec.encode(pixels[3:4]).codes_BL[0].tolist()


def test_importance_is_the_squared_distance_and_zero_for_a_copy(codec: ImageCodec):
    source, target = codec.encode(codec.preprocess(pictures(2))).features_BLC
    expected = ((source.double() - target.double()) ** 2).sum(-1)
    torch.testing.assert_close(codec.importance(source, target).double(), expected, rtol=1e-5, atol=1e-6)
    assert codec.importance(source, source).count_nonzero() == 0


def test_a_saved_codec_gives_the_same_codes_under_the_same_id(codec: ImageCodec, tmp_path: Path):
    codec.save(tmp_path)
    loaded = ImageCodec.load(tmp_path)
    pixels = codec.preprocess(pictures(2))
    assert loaded.id == codec.id
    assert loaded.encode(pixels).codes_BL.tolist() == codec.encode(pixels).codes_BL.tolist()


def test_other_weights_have_another_id(codec: ImageCodec):
    assert new_codec(resolution=32, patch=2, channels=(8, 16), num_codes=32, dims=4).id != codec.id


def test_a_folder_without_a_codec_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ModelError, match=str(tmp_path)):
        ImageCodec.load(tmp_path)


@pytest.mark.parametrize("size", [(32, 32), (100, 40), (40, 100), (33, 32), (5, 400)])
def test_the_codecs_view_is_the_central_square(size: tuple[int, int]):
    view = crop_square(pictures(1, size)[0], 32)
    assert (view.size, view.mode) == ((32, 32), "RGB")


def test_the_crop_keeps_the_middle():
    image = Image.new("RGB", (96, 32), "black")
    image.paste((255, 0, 0), (32, 0, 64, 32))
    assert np.asarray(crop_square(image, 32))[..., 0].min() == 255


@pytest.mark.parametrize("size", [(1, 2_000_000), (2_000_000, 1)])
def test_a_very_narrow_image_takes_no_more_memory_than_others(size: tuple[int, int]):
    image = Image.new("L", size)
    middle = (size[0] // 2, size[1] // 2)
    image.paste(255, (*middle, middle[0] + 1, middle[1] + 1))
    view = crop_square(image, 512)  # all of it would be a thousand gigapixels
    assert view.size == (512, 512)
    assert np.asarray(view).max() > 100


def test_pixels_and_images_convert_back(codec: ImageCodec):
    images = pictures(2)
    back = to_images(codec.preprocess(images))
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(images, back, strict=True))
