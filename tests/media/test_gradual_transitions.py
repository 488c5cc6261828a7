from itertools import count

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from kinescribe.media.gradual_transitions import Transition, TransitionFinder
from kinescribe.media.motion import GREY_SIDE, grey_size
from tests.videos import pan, still, whip_pan

Frames = NDArray[np.float32]
RATE = 15
"""Frames in a second, as they are sampled of 30."""


def grey(images: list[NDArray[np.uint8]]) -> Frames:
    height, width = images[0].shape[:2]
    size = grey_size(width, height, GREY_SIDE)
    return np.stack(
        [
            cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
            for image in images
        ]
    ).astype(np.float32)


def shot(seed: int, step: float = 0.5) -> Frames:
    return grey(pan(30, step, seed))


def transitions(frames: Frames, step: int = 2) -> list[Transition]:
    finder = TransitionFinder()
    for index, frame in zip(count(0, step), np.clip(np.rint(frames), 0, 255).astype(np.uint8), strict=False):
        finder.add(index, index / step / RATE, frame)
    return finder.transitions()


def joined(kind: str, num: int, first: Frames, second: Frames) -> Frames:
    """The second shot takes over from the first during `num` frames, after frame 29 - num."""
    old, new = first[len(first) - num :], second[:num]
    done = ((np.arange(num) + 1) / (num + 1))[:, None, None]
    across = np.linspace(0, 1, first.shape[2])[None, None]
    down = np.linspace(0, 1, first.shape[1])[None, :, None]
    between = {
        "dissolve": old * (1 - done) + new * done,
        "black": 16 + (np.where(done < 0.5, old, new) - 16) * np.abs(1 - 2 * done),
        "white": 235 + (np.where(done < 0.5, old, new) - 235) * np.abs(1 - 2 * done),
        "wipe to the right": np.where(across < done, new, old),
        "wipe upwards": np.where(1 - down < done, new, old),
    }[kind]
    return np.concatenate([first[: len(first) - num], between, second[num:]])


@pytest.mark.parametrize("num", [3, 7, 15])
@pytest.mark.parametrize("kind", ["dissolve", "black", "white", "wipe to the right", "wipe upwards"])
def test_a_gradual_transition_is_found_where_it_is(kind: str, num: int):
    (found,) = transitions(joined(kind, num, shot(0), shot(1)))
    last, first = 2 * (29 - num), 2 * 30
    most = 0 if kind.startswith("wipe") and num < 15 else 6
    assert abs(found.last - last) <= most
    assert abs(found.first - first) <= most


@pytest.mark.parametrize("step", [0.0, 1.5, 6.0, 12.0])
def test_one_shot_has_none_however_fast_it_moves(step: float):
    assert transitions(shot(0, step)) == []


def test_a_cut_is_not_gradual():
    assert transitions(np.concatenate([shot(0), shot(1)])) == []


@pytest.mark.parametrize("level", [16.0, 250.0])
def test_a_flash_in_one_shot_is_none(level: float):
    frames = shot(0)
    frames[14:16] = level
    assert transitions(frames) == []


@pytest.mark.parametrize("num_fast", [3, 4, 6, 9])
@pytest.mark.parametrize("seed", range(3))
def test_a_whip_pan_is_none(seed: int, num_fast: int):
    assert transitions(grey(whip_pan(30, num_fast, seed))) == []


def test_a_change_of_light_is_none():
    frames = shot(0)
    assert transitions(frames * np.linspace(1, 0.4, len(frames))[:, None, None]) == []


def test_an_object_that_crosses_the_picture_is_none():
    images = still(30)
    for index, image in enumerate(images):
        cv2.circle(
            image, (index * image.shape[1] // 30, image.shape[0] // 2), image.shape[0] // 4, (250, 20, 20), -1
        )
    assert transitions(grey(images)) == []


@pytest.mark.parametrize(("left", "top"), [(32, 0), (0, 10), (0, 24), (10, 10)])
def test_bars_do_not_hide_a_dissolve(left: int, top: int):
    frames = joined("dissolve", 7, shot(0), shot(1))
    barred = np.full_like(frames, 16)
    height, width = frames.shape[1:]
    barred[:, top : height - top, left : width - left] = frames[:, top : height - top, left : width - left]
    assert len(transitions(barred)) == 1


def test_pixels_that_are_partly_bar_do_not_hide_a_dissolve():
    images = joined("dissolve", 7, shot(0), shot(1))
    images[:, :, :33] = images[:, :, -33:] = 16
    images[:, :, 33] = images[:, :, -34] = 235
    assert len(transitions(images)) == 1


@pytest.mark.parametrize("shape", [(96, 54), (40, 96), (72, 96), (96, 40)])
@pytest.mark.parametrize("bars", [(0, 0), (0, 1), (1, 0), (3, 3), (0, 30), (14, 0)])
def test_pictures_of_any_shape_between_any_bars_are_looked_at(shape: tuple[int, int], bars: tuple[int, int]):
    frames = np.stack([cv2.resize(frame, shape[::-1]) for frame in joined("dissolve", 7, shot(0), shot(1))])
    barred = np.full_like(frames, 16)
    (top, left), (height, width) = bars, shape
    inside = slice(None), slice(top, height - top), slice(left, width - left)
    barred[inside] = frames[inside]
    assert len(transitions(barred)) <= 1


def test_two_dissolves_are_two():
    both = np.concatenate(
        [joined("dissolve", 7, shot(0), shot(1))[:-8], joined("dissolve", 7, shot(1), shot(2))[8:]]
    )
    assert len(transitions(both)) == 2


def test_a_long_clip_is_looked_at_in_parts_without_losing_a_dissolve():
    long = grey(pan(400, 0.5, 0))
    for place in (100, 250, 262, 390):
        frames = np.concatenate(
            [long[: place - 30], joined("dissolve", 7, long[place - 30 : place], shot(1)), long[place:]]
        )
        assert len(transitions(frames)) >= 1


def test_frames_that_are_sampled_more_often_are_left_out():
    finder = TransitionFinder()
    frames = joined("dissolve", 7, shot(0), shot(1)).astype(np.uint8).repeat(3, 0)
    for index, frame in enumerate(frames):
        finder.add(index, index / (3 * RATE), frame)
    (found,) = finder.transitions()
    assert abs(found.last - 66) <= 9


def test_few_frames_have_none():
    for num in range(6):
        assert transitions(shot(0)[:num]) == []
    assert len(transitions(joined("dissolve", 1, shot(0), shot(1))[27:32])) == 1


def interruptions(frames: Frames, *key_frames: int) -> list[Transition]:
    finder = TransitionFinder()
    for index, frame in enumerate(np.clip(np.rint(frames), 0, 255).astype(np.uint8)):
        finder.add(index, index / RATE, frame)
    return finder.interruptions(key_frames)


def water(seed: int) -> Frames:
    """A fine pattern, which the flow follows for a few frames but not from one key frame to the next."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (60, 200, 3), np.uint8)
    wide = cv2.resize(coarse, (800, 240), interpolation=cv2.INTER_CUBIC)
    return grey([wide[:, 2 * index : 2 * index + 320] for index in range(30)])


def test_a_dissolve_of_what_the_flow_cannot_follow_is_found_between_key_frames():
    frames = joined("dissolve", 5, water(0), water(1))
    assert interruptions(frames, 20, 34) != []


def test_what_the_flow_cannot_follow_is_no_interruption():
    frames = water(0)
    assert interruptions(frames, 0, 15, 29) == []


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("start", range(10, 16))
def test_a_flash_between_two_key_frames_is_no_interruption(start: int, length: int):
    frames = shot(0, step=1.0)
    frames[start : start + length] = 250
    assert interruptions(frames, 3, 26) == []


def test_key_frames_that_are_too_close_to_look_between_them_are_left_alone():
    frames = np.concatenate([shot(0)[:15], shot(1)[:15]])
    assert interruptions(frames, 13, 16) == []
    frames[13] = 16
    assert interruptions(frames, 13, 16) == []
    assert interruptions(frames, 13, 17) == [Transition(13, 17)]


@pytest.mark.parametrize("level", [16, 235])
@pytest.mark.parametrize("num", [1, 10])
def test_a_key_frame_in_a_fade_that_is_blank_is_no_part_of_a_pair(level: int, num: int):
    frames = shot(0)
    strength = np.linspace(0, 1, num)[:, None, None]
    frames[:num] = level + (frames[:num] - level) * strength
    assert interruptions(frames, 0, 12, 25) == [Transition(0, 12)]
    assert interruptions(frames[::-1], 4, 17, 29) == [Transition(17, 29)]


def test_key_frames_that_are_far_apart_may_show_different_things():
    frames = joined("dissolve", 5, water(0), water(1))
    finder = TransitionFinder()
    for index, frame in enumerate(np.clip(np.rint(frames), 0, 255).astype(np.uint8)):
        finder.add(index, index / 4, frame)
    assert finder.interruptions([20, 34]) == []


def test_fast_motion_between_two_key_frames_is_no_interruption():
    frames = np.concatenate([shot(0, step=0.0)[:10], shot(0, step=9.0)[:8], shot(0, step=0.0)[:10]])
    assert interruptions(frames, 0, 13, 27) == []
