import cv2
import numpy as np
import pytest

from kinescribe.media.camera_motion import CameraMotion, camera_motion

WIDTH, HEIGHT = 320, 240
NOTHING = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def world(seed: int = 0) -> np.ndarray:
    """A picture with texture at every scale, larger than a view."""
    random = np.random.default_rng(seed)
    picture = np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.float32)
    for step in (4, 16, 64):
        noise = random.integers(0, 256, (2 * HEIGHT // step, 2 * WIDTH // step, 3)).astype(np.float32)
        picture += cv2.resize(noise, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC) / 3
    return np.clip(picture, 0, 255).astype(np.uint8)


def view(picture: np.ndarray, dx: float = 0, dy: float = 0, zoom: float = 1, roll_deg: float = 0):
    """The middle of the picture after its content moved so; shifts in pixels."""
    matrix = cv2.getRotationMatrix2D((WIDTH, HEIGHT), -roll_deg, zoom)
    matrix[:, 2] += (dx - WIDTH / 2, dy - HEIGHT / 2)
    return cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        ({}, CameraMotion(0, 0, 1, 0)),
        ({"dx": 32}, CameraMotion(0.1, 0, 1, 0)),
        ({"dy": -24}, CameraMotion(0, -0.1, 1, 0)),
        ({"zoom": 1.25}, CameraMotion(0, 0, 1.25, 0)),
        ({"zoom": 0.8}, CameraMotion(0, 0, 0.8, 0)),
        ({"roll_deg": 12}, CameraMotion(0, 0, 1, 12)),
        (
            {"dx": -16, "dy": 12, "zoom": 1.1, "roll_deg": -5},
            CameraMotion(-0.05, 0.05, 1.1, -5),
        ),
    ],
)
def test_a_known_motion_is_measured(moved: dict[str, float], expected: CameraMotion):
    picture = world()
    measured = camera_motion(view(picture), view(picture, **moved))
    assert measured is not None
    assert measured[:2] == pytest.approx(expected[:2], abs=0.004)
    assert measured.zoom == pytest.approx(expected.zoom, rel=0.01)
    assert measured.roll_deg == pytest.approx(expected.roll_deg, abs=0.4)


def test_the_motion_is_that_of_the_whole_picture_and_no_objects():
    picture, other = world(), world(1)
    source, target = view(picture), view(picture)
    source[60:150, 40:130], target[60:150, 140:230] = other[:90, :90], other[:90, :90]
    measured = camera_motion(source, target)
    assert measured is not None
    assert abs(measured.dx) < 0.004


def test_an_object_alone_in_front_of_nothing_is_no_camera():
    source, target = (np.full((HEIGHT, WIDTH, 3), 90, np.uint8) for _ in range(2))
    source[60:120, 20:80], target[60:120, 80:140] = world()[:60, :60], world()[:60, :60]
    assert camera_motion(source, target) is None


def test_two_pictures_without_common_points_or_without_texture_are_not_measured():
    assert camera_motion(view(world()), view(world(1))) is None
    flat = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    assert camera_motion(flat, flat) is None


def test_the_size_of_the_pictures_makes_no_difference():
    picture = world()
    large = [cv2.resize(one, (4 * WIDTH, 4 * HEIGHT)) for one in (view(picture), view(picture, dx=32))]
    measured = camera_motion(*large)
    assert measured is not None
    assert measured.dx == pytest.approx(0.1, abs=0.004)
