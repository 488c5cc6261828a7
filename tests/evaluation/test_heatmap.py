import io

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from evaluation.heatmap import LONGER_SIDE, overlay, thumbnail

GREY = (128, 128, 128)


def stored(size: tuple[int, int]) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, GREY).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize("size", [(640, 360), (32, 64), (1, 1000)])
def test_a_thumbnail_keeps_the_frames_shape(size: tuple[int, int]):
    picture = thumbnail(stored(size))
    assert max(picture.size) == LONGER_SIDE
    assert picture.width / picture.height == pytest.approx(size[0] / size[1], abs=0.01)


def test_heat_lies_where_the_weights_are_within_the_centre_square():
    frame = thumbnail(stored((200, 100)))
    weights = [0, 0, 0, 4.0]
    pixels = np.asarray(overlay(frame, weights, (2, 2))).astype(int)
    height, width, _ = pixels.shape
    outside, cold, hot = pixels[height // 2, 5], pixels[10, width // 2 - 10], pixels[-10, width // 2 + 10]
    assert outside.max() < 64
    assert tuple(cold) == GREY
    assert hot[0] > GREY[0] > hot[1]


def test_weights_that_are_all_zero_leave_the_frame_as_it_is():
    frame = thumbnail(stored((50, 50)))
    assert overlay(frame, [0.0] * 9, (3, 3)).tobytes() == frame.tobytes()


def test_what_datasets_do_not_hold_is_not_opened():
    script = io.BytesIO()
    Image.new("RGB", (4, 4)).save(script, "EPS")
    with pytest.raises(UnidentifiedImageError):  # Pillow would have Ghostscript run it
        thumbnail(script.getvalue())
