import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from kinescribe.media.quality import change_hash, frame_quality, hashable, perceptual_hash
from kinescribe.media.still_images import Rgb, small_grey
from kinescribe.schemas.clips import FrameQuality

ALL = ("sharpness", "brightness", "clipping", "bars", "hashes")


def picture(seed: int = 0, width: int = 320, height: int = 240) -> Rgb:
    """A picture with structure of all sizes, from dark to bright."""
    random = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for side in (4, 8, 16, 32):
        coarse = random.uniform(-1, 1, (side, side, 3)).astype(np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / side**0.5
    return np.clip(128 + 90 * image, 5, 250).astype(np.uint8)


def quality(rgb: Rgb, columns: tuple[str, ...] = ALL) -> FrameQuality:
    return frame_quality(rgb, small_grey(rgb), columns)


def bits(first: bytes, second: bytes) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(first, np.uint8) ^ np.frombuffer(second, np.uint8))


def hash_of(rgb: Rgb) -> bytes:
    return perceptual_hash(hashable(small_grey(rgb)))


def test_sharpness_is_the_variance_of_the_second_derivative():
    grey = picture()[..., 1]
    variance = cv2.Laplacian(grey.astype(np.float64), cv2.CV_64F).var()
    assert quality(np.repeat(grey[..., None], 3, -1)).sharpness == pytest.approx(variance)


def test_a_blurred_picture_is_less_sharp():
    detailed = picture()
    detailed[::4] = 255 - detailed[::4]
    sharp = quality(detailed).sharpness
    blurred = quality(cv2.GaussianBlur(detailed, (9, 9), 3)).sharpness
    assert sharp is not None
    assert blurred is not None
    assert 0 < blurred < sharp / 3


@pytest.mark.parametrize("grey", [10, 128, 240])
def test_brightness_is_the_mean_grey(grey: int):
    assert quality(np.full((60, 80, 3), grey, np.uint8)).brightness == pytest.approx(grey / 255)


def test_crushed_and_blown_pixels_are_clipped():
    image = picture()
    image[:60], image[60:90] = 255, 0
    image[100:] = 128
    assert quality(image).clipping == pytest.approx(90 / 240, abs=0.005)
    assert quality(picture()).clipping == 0
    levels = np.tile(np.array([252, 3, 4, 251], np.uint8), (60, 20))
    assert quality(np.repeat(levels[..., None], 3, -1)).clipping == 0.5


def test_bars_are_a_share_of_the_picture_and_count_for_nothing_else():
    whole, barred = quality(picture(height=180)), np.zeros((240, 320, 3), np.uint8)
    barred[30:210] = picture(height=180)
    letterboxed = quality(barred)
    pillarboxed = quality(np.ascontiguousarray(barred.swapaxes(0, 1)))
    assert letterboxed.bars == pytest.approx(0.25, abs=0.02)
    assert pillarboxed.bars == pytest.approx(0.25, abs=0.02)
    for barred_quality in (letterboxed, pillarboxed):
        assert barred_quality.brightness == pytest.approx(whole.brightness, abs=0.02)
        assert (barred_quality.clipping or 0) < 0.02
    assert whole.bars == 0


@pytest.mark.parametrize(
    ("levels", "bars"), [((24, 24), 0.25), ((25, 25), 0), ((16, 24), 0.25), ((15, 24), 0)]
)
def test_a_bar_is_dark_and_of_one_shade(levels: tuple[int, int], bars: float):
    grey = np.full((60, 80), 128, np.uint8)
    grey[:15, ::2], grey[:15, 1::2] = levels
    grey[30, 40] = 0
    assert frame_quality(np.repeat(grey[..., None], 3, -1), grey, ("bars",)).bars == bars


@pytest.mark.parametrize("shade", [0, 20, 255])
def test_a_picture_of_one_shade_has_no_bars(shade: int):
    assert quality(np.full((240, 320, 3), shade, np.uint8)).bars == 0


def test_a_dark_sky_is_no_bar():
    image = picture()
    image[:80] = np.linspace(2, 60, 320)[None, :, None]
    assert quality(image).bars == 0


def test_only_what_is_asked_for_is_measured():
    assert quality(picture(), ("bars",)) == FrameQuality(bars=0)
    assert quality(picture(), ()) == FrameQuality()
    assert quality(picture(), ("hashes",)) == FrameQuality(hash=hash_of(picture()))


def test_writing_covers_a_share_of_the_picture():
    written = picture()
    plain = quality(written, ("text",)).text_share
    cv2.putText(written, "subscribe to my channel", (10, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.75, (255,) * 3, 2)
    share = quality(written, ("text",)).text_share
    assert plain == pytest.approx(0, abs=0.005)
    assert 0.01 < (share or 0) < 0.3


@pytest.mark.parametrize("side", [(160, 120), (512, 384), (300, 300)])
def test_the_hash_survives_size_brightness_and_compression(side: tuple[int, int]):
    changed = cv2.resize(picture(), side, interpolation=cv2.INTER_AREA) * 0.7 + 20
    _, jpeg = cv2.imencode(".jpg", changed.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 30])
    decoded = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)
    assert bits(hash_of(picture()), hash_of(decoded)).sum() <= 6


def test_mirroring_inverts_the_second_half_of_the_hash():
    differing = bits(hash_of(picture()), hash_of(np.ascontiguousarray(picture()[:, ::-1])))
    assert differing[:64].sum() <= 1
    assert differing[64:].sum() >= 63


def test_a_crop_changes_few_bits_and_another_picture_half_of_them():
    cropped = picture()[:228, 16:]
    assert bits(hash_of(picture()), hash_of(cropped)).sum() <= 40
    others = [bits(hash_of(picture()), hash_of(picture(seed))).sum() for seed in range(1, 20)]
    assert min(others) >= 45


def test_the_hash_of_a_change_tells_motions_in_one_scene_apart():
    def moved(x: int) -> NDArray[np.uint8]:
        image = picture()
        cv2.circle(image, (x, 120), 10, (255, 255, 255), -1)
        return small_grey(image)

    assert bits(perceptual_hash(hashable(moved(100))), perceptual_hash(hashable(moved(220)))).sum() <= 20
    right, left = change_hash(moved(100), moved(220)), change_hash(moved(220), moved(100))
    assert bits(right, left).sum() >= 120
    assert bits(right, change_hash(moved(100), moved(120))).sum() >= 30
