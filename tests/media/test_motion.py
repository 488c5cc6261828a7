import cv2
import numpy as np
import pytest

from kinescribe.media.motion import (
    GREY_SIDE,
    PAIR_SIDE,
    Grey,
    GreyFrame,
    Measured,
    _difference,
    grey_size,
    measure,
    pair_motion,
    replaced_share,
    unmatched_share,
)
from tests.videos import Image, pan, still, texture, whip_pan

THRESHOLD = 0.25


def grey(image: Image, side: int = GREY_SIDE) -> Grey:
    size = grey_size(image.shape[1], image.shape[0], side)
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def measured(images: list[Image], stride: int = 1) -> list[Measured[int]]:
    samples = (
        GreyFrame(index * stride, index * stride / 30, grey(image), index)
        for index, image in enumerate(images)
    )
    return list(measure(samples, THRESHOLD))


def cuts(images: list[Image]) -> list[int]:
    return [one.sample.item for one in measured(images) if one.is_cut]


def test_every_sample_comes_out_in_order():
    for num_frames in range(8):
        assert [one.sample.item for one in measured(still(num_frames))] == list(range(num_frames))


def test_motion_is_measured_in_pixels_of_128_per_frame():
    # Two pixels of 160 a frame are 1.6 of 128.
    for stride in (1, 2):
        motion = [one.motion for one in measured(pan(10, step=2.0 * stride), stride)]
        assert motion[0] == 0
        assert motion[1:] == pytest.approx([1.6] * 9, rel=0.25)


@pytest.mark.parametrize("noise", [0.0, 3.0, 10.0])
def test_noise_is_not_motion(noise: float):
    source, target = (grey(image, PAIR_SIDE) for image in still(2, noise))
    assert pair_motion(source, target) < 0.05


@pytest.mark.parametrize("noise", [0.0, 3.0, 10.0])
def test_noise_on_a_smooth_surface_is_not_motion(noise: float):
    random = np.random.default_rng(0)
    ramp = np.broadcast_to(np.linspace(60, 180, 640), (480, 640))
    source, target = (
        grey(
            np.clip(ramp + random.normal(0, noise, ramp.shape), 0, 255)
            .astype(np.uint8)[..., None]
            .repeat(3, 2),
            128,
        )
        for _ in range(2)
    )
    assert pair_motion(source, target) < 0.05


def test_a_change_of_light_is_not_motion():
    image = still(1)[0]
    darker = np.asarray(image * 0.85, np.uint8)
    assert pair_motion(grey(image, PAIR_SIDE), grey(darker, PAIR_SIDE)) < 0.05


def test_slow_camera_motion_is_motion():
    # A quarter of a pixel a frame, over twenty frames.
    first, *_, last = pan(21, step=0.25)
    assert pair_motion(grey(first, PAIR_SIDE), grey(last, PAIR_SIDE)) > 2


def test_a_cut_is_found_at_its_frame():
    assert cuts(pan(8, seed=1) + pan(8, seed=2) + pan(8, seed=3)) == [8, 16]


def test_nothing_moves_across_a_cut():
    motion = [one.motion for one in measured(pan(8, seed=1) + pan(8, seed=2))]
    assert motion[8] == 0
    assert min(motion[1:8] + motion[9:]) > 0.5


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_neither_a_cut_nor_motion(length: int):
    scene = pan(16, step=0.5, seed=4)
    for index in range(6, 6 + length):
        scene[index] = texture(99)[:120, :160]
    assert cuts(scene) == []
    assert measured(scene)[6].motion == 0


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_frames_that_a_flash_hides_are_known(length: int):
    scene = pan(16, step=1.0, seed=4)
    scene[6 : 6 + length] = [np.full_like(scene[0], 250)] * length
    hidden = [one.sample.item for one in measured(scene) if one.is_flash]
    assert hidden == list(range(6, 6 + length))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_fast", [3, 4, 6, 9])
def test_a_whip_pan_is_not_a_cut(num_fast: int, seed: int):
    assert cuts(whip_pan(24, num_fast, seed)) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_shot_that_opens_with_fast_motion_beside_a_still_half_starts_with_a_cut(seed: int):
    moving, beside = pan(10, step=24.0, seed=seed), still(10, seed=seed + 20)
    halves = [np.hstack([a[:, :80], b[:, 80:]]) for a, b in zip(beside, moving, strict=True)]
    assert cuts(pan(10, seed=seed + 10) + halves) == [10]


def test_what_stays_in_place_beside_something_new_has_a_counterpart():
    before, new = still(1)[0], texture(5)
    after = before.copy()
    after[30:90, 40:120] = new[30:90, 40:120]
    assert unmatched_share(grey(before), grey(after)) < 0.35


def test_structure_is_replaced_however_little_there_is():
    first, second = np.full((2, 96, 96), 120, np.uint8)
    first[:30], second[66:] = grey(texture(0))[:30, :96], grey(texture(1))[:30, :96]
    assert replaced_share(first, second) > max(0.8, unmatched_share(first, second))
    assert replaced_share(first, first) == 0


def test_a_cut_stands_out_from_every_step_around_it():
    flicker = [texture(seed)[:120, :160] for seed in range(50, 58)]
    assert cuts(pan(8, seed=1) + flicker) == []


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_difference_of_two_frames_is_one_minus_their_correlation(share: float):
    random = np.random.default_rng(0)
    first, second = (random.normal(0, 30, (200, 200)) for _ in range(2))
    mixed = share * first + np.sqrt(1 - share**2) * second
    frames = [np.clip(128 + values, 0, 255).astype(np.uint8) for values in (first, mixed)]
    assert _difference(*frames) == pytest.approx(1 - share, abs=0.03)


@pytest.mark.parametrize("step", [4.0, 12.0, 24.0])
def test_a_fast_pan_is_not_a_cut(step: float):
    assert cuts(pan(20, step=step, seed=5)) == []


def test_switching_on_a_lamp_is_not_a_cut():
    bright = pan(16, seed=6)
    dark = [np.asarray(image * 0.4, np.uint8) for image in bright]
    assert cuts(dark[:8] + bright[8:]) == []


def test_a_cut_in_half_of_the_picture_is_a_cut():
    left, right = pan(8, seed=7) + pan(8, seed=8), still(16, seed=9)
    split = [np.hstack([a[:, :80], b[:, :80]]) for a, b in zip(left, right, strict=True)]
    assert cuts(split) == [8]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1280, 8), (4, 900), (4000, 4000)])
def test_every_shape_can_be_measured(width: int, height: int):
    size = grey_size(width, height, GREY_SIDE)
    assert min(size) >= 40
    image = np.asarray(cv2.resize(texture(0), size), np.uint8)[..., 0].copy()
    assert pair_motion(image, image[:, ::-1].copy()) >= 0


def test_flat_pictures_match_each_other_and_no_texture():
    flat, textured = np.full((96, 128), 90, np.uint8), grey(texture(0, 128, 96), 128)
    no_flow = np.zeros((96, 128, 2), np.float32)
    assert unmatched_share(flat, flat + 20, no_flow) == 0
    assert unmatched_share(flat, textured, no_flow) > 0.8


@pytest.mark.parametrize("share", [0.4, 0.55, 0.7])
def test_a_patch_is_unmatched_if_its_correlation_is_below_one_half(share: float):
    # Correlation share / sqrt(share² + (1 - share)²), or with the mean of both variances as here a bit less.
    generator = np.random.default_rng(0)
    source, other = generator.normal(0, 40, (2, 96, 128))
    target = share * source + (1 - share) * other
    pictures = [np.clip(128 + picture, 0, 255).astype(np.uint8) for picture in (source, target)]
    expected = share / ((1 + share**2 + (1 - share) ** 2) / 2) < 0.5
    unmatched = unmatched_share(*pictures, np.zeros((96, 128, 2), np.float32))
    assert (unmatched > 0.5) == expected, unmatched
