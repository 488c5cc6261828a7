import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinescribe.models.checkpoint_files import codec_grid, identify_codec, write_fit
from kinescribe.models.codec import ImageCodec, to_images
from kinescribe.models.fitting import fitted
from kinescribe.models.initialization import new_codec
from kinescribe.schemas.codes import FITS, Fit
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


@pytest.mark.parametrize("fit", FITS)
def test_a_saved_codec_fits_pictures_as_before(codec: ImageCodec, fit: Fit, tmp_path: Path):
    codec.save(tmp_path)
    write_fit(tmp_path, fit)
    loaded = ImageCodec.load(tmp_path)
    assert loaded.fit == fit
    assert loaded.id == identify_codec(tmp_path).id == identify_codec(tmp_path, fit).id
    assert (loaded.id == codec.id) == (fit == "crop")
    wide = pictures(1, (64, 32))
    seen = torch.from_numpy(np.asarray(fitted(wide[0], 32, fit)).copy()).permute(2, 0, 1).float() / 127.5 - 1
    torch.testing.assert_close(loaded.preprocess(wide)[0], seen)
    loaded.save(tmp_path / "again")
    assert ImageCodec.load(tmp_path / "again").id == loaded.id


@pytest.mark.parametrize("fit", ["wide", None, 3, ["pad"]])
def test_an_unknown_fit_is_refused_by_name(codec: ImageCodec, fit: object, tmp_path: Path):
    codec.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config | {"fit": fit}))
    with pytest.raises(ModelError, match=r"config.json: fit must be crop or pad or stretch, got"):
        ImageCodec.load(tmp_path)


def test_pixels_and_images_convert_back(codec: ImageCodec):
    images = pictures(2)
    back = to_images(codec.preprocess(images))
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(images, back, strict=True))
