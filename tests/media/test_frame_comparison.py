import cv2
import numpy as np
import pytest

from kinescribe.media.frame_comparison import StoredPicture
from tests.videos import Image, pan


@pytest.fixture(scope="module")
def frames() -> list[Image]:
    return pan(10)


def test_a_picture_is_like_itself_at_any_size_brightness_and_contrast(frames: list[Image]):
    stored = StoredPicture.of(frames[3])
    darker = np.asarray(frames[3] * 0.6 + 30, np.uint8)
    larger = np.asarray(cv2.resize(darker, (480, 360), interpolation=cv2.INTER_CUBIC), np.uint8)
    for same in (frames[3], darker, larger):
        assert stored.is_like(stored.difference(same), [stored.difference(frames[4])])


def test_a_picture_is_not_like_the_frame_beside_its_own(frames: list[Image]):
    stored = StoredPicture.of(frames[3])
    for own in (2, 4):
        others = [stored.difference(frames[index]) for index in (1, 3, 5)]
        assert not stored.is_like(stored.difference(frames[own]), others)


def test_a_frame_that_is_shown_twice_is_as_right_as_its_copy(frames: list[Image]):
    stored = StoredPicture.of(frames[3])
    assert stored.is_like(1.0, [0.95])
    assert not stored.is_like(2.0, [0.95])


def test_another_picture_or_a_negative_is_not_like_it_whatever_else_there_is(frames: list[Image]):
    stored = StoredPicture.of(frames[3])
    other = pan(1, seed=9)[0]
    for wrong in (other, 255 - frames[3], np.full_like(other, 90)):
        assert not stored.is_like(stored.difference(wrong), [255.0])


def test_a_flat_picture_is_not_like_a_frame_with_contrast(frames: list[Image]):
    stored = StoredPicture.of(np.full((48, 64, 3), 90, np.uint8))
    assert not stored.is_like(stored.difference(frames[3]), [255.0])


def test_flat_pictures_are_alike():
    stored = StoredPicture.of(np.full((48, 64, 3), 16, np.uint8))
    assert stored.is_like(stored.difference(np.full((48, 64, 3), 20, np.uint8)), [0.0])


def test_a_picture_of_one_pixel_is_compared():
    assert StoredPicture.of(np.zeros((1, 1, 3), np.uint8)).difference(np.zeros((9, 9, 3), np.uint8)) == 0
