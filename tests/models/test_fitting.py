import numpy as np
import pytest
from PIL import Image

from kinescribe.models.fitting import BARS, fitted, restored
from kinescribe.schemas.codes import FITS, Fit


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))


def gradient(size: tuple[int, int]) -> Image.Image:
    """Red grows from left to right and green from top to bottom."""
    width, height = size
    red_HW, green_HW = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([red_HW, green_HW, 0 * red_HW], -1).round().astype(np.uint8))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(32, 32), (100, 40), (40, 100), (33, 32), (5, 400)])
def test_any_picture_becomes_a_square(size: tuple[int, int], fit: Fit):
    square = fitted(noise(size), 32, fit)
    assert (square.size, square.mode) == ((32, 32), "RGB")


@pytest.mark.parametrize("fit", FITS)
def test_a_square_picture_is_the_same_in_any_fit(fit: Fit):
    picture = noise((48, 48))
    assert fitted(picture, 32, fit) == fitted(picture, 32, "crop")
    assert restored(fitted(picture, 32, fit), picture.size, fit).size == (32, 32)


def test_a_crop_keeps_the_middle():
    image = Image.new("RGB", (96, 32), "black")
    image.paste((255, 0, 0), (32, 0, 64, 32))
    assert np.asarray(fitted(image, 32, "crop"))[..., 0].min() == 255


def test_padding_keeps_the_picture_whole_between_bars():
    wide = np.asarray(fitted(gradient((64, 32)), 32, "pad"))
    assert (wide[:8] == BARS).all()
    assert (wide[24:] == BARS).all()
    assert wide[8, 0].max() < 20
    assert wide[23, 31, :2].min() > 235
    tall = np.asarray(fitted(gradient((32, 64)), 32, "pad"))
    assert (tall[:, :8] == BARS).all()
    assert tall[31, 23, :2].min() > 235


def test_stretching_fills_the_square_with_all_of_the_picture():
    square = np.asarray(fitted(gradient((96, 32)), 32, "stretch"))
    assert square[0, 0].max() < 20
    assert square[31, 31, :2].min() > 235


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("size", [(64, 32), (32, 64), (640, 360), (2000, 3)])
def test_a_square_is_restored_to_the_pictures_proportions(size: tuple[int, int], fit: Fit):
    picture = gradient(size)
    back = restored(fitted(picture, 64, fit), size, fit)
    assert max(back.size) == 64
    assert abs(back.width * size[1] - back.height * size[0]) <= max(size)
    small = np.asarray(picture.resize(back.size, Image.Resampling.BICUBIC), float)
    assert np.abs(np.asarray(back, float) - small).max() < 12


def test_a_crop_is_restored_as_it_is():
    square = fitted(gradient((64, 32)), 32, "crop")
    assert restored(square, (64, 32), "crop") is square


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(1, 2_000_000), (2_000_000, 1)])
def test_a_very_narrow_image_takes_no_more_memory_than_others(size: tuple[int, int], fit: Fit):
    image = Image.new("L", size, 255)
    view = fitted(image, 512, fit)  # scaled so that its shorter side fits, it would be a thousand gigapixels
    assert view.size == (512, 512)
    assert np.asarray(view).max() > 100
