import io

import numpy as np
import pytest
from PIL import Image

from kinescribe.reports.heatmap import SMALLEST, THUMBNAIL, heat, thumbnail
from kinescribe.schemas.errors import DatasetError


def stored(size: tuple[int, int], noise: bool = False) -> bytes:
    data = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    (Image.fromarray(pixels) if noise else Image.new("RGB", size, "grey")).save(data, "PNG")
    return data.getvalue()


def opened(image: bytes) -> Image.Image:
    return Image.open(io.BytesIO(image))


@pytest.mark.parametrize("size", [(640, 360), (32, 64), (1, 1000)])
def test_a_thumbnail_keeps_the_frames_shape_and_is_never_larger(size: tuple[int, int]):
    picture = opened(thumbnail(stored(size), 1 << 20))
    assert max(picture.size) == min(THUMBNAIL, max(size))
    assert picture.width / picture.height == pytest.approx(size[0] / size[1], abs=0.01)


def test_a_thumbnail_is_as_small_as_it_must_be():
    frame = stored((300, 200), noise=True)
    sizes = {limit: thumbnail(frame, limit) for limit in (20_000, 4_000, 1_000)}
    assert all(len(picture) <= limit for limit, picture in sizes.items())
    widths = [opened(picture).width for picture in sizes.values()]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > widths[-1] > SMALLEST


def test_the_heat_map_has_one_pixel_per_token_from_transparent_to_red():
    picture = opened(heat([0, 2.0, 0, 4.0], (2, 2)))
    assert picture.size == (2, 2)
    cold, warm, _, hot = np.asarray(picture.convert("RGBA")).reshape(4, 4).astype(int)
    assert cold[3] == 0
    assert 0 < warm[3] < hot[3]
    assert hot[0] > 200 > 50 > hot[1]


def test_weights_that_are_all_zero_show_nothing():
    assert not np.asarray(opened(heat([0.0] * 6, (2, 3))).convert("RGBA"))[..., 3].any()


def test_only_image_formats_of_datasets_are_opened():
    script = io.BytesIO()
    Image.new("RGB", (4, 4)).save(script, "EPS")
    with pytest.raises(DatasetError):  # Pillow would have Ghostscript run it
        thumbnail(script.getvalue(), 1000)
