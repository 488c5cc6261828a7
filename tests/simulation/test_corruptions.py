import numpy as np

from kinescribe.simulation.corruptions import compressed, decompressed, disturbances, draw_recording, record
from kinescribe.simulation.scene import Camera, Scene, Thing

SCENE = Scene((Thing("box", "blue", 0.4, 0.6, 0.15, 5.0),), Camera(), 1)


def test_two_recordings_of_a_scene_are_similar_but_not_equal():
    rng = np.random.default_rng(0)
    recording = draw_recording(rng)
    first, second = (
        record(SCENE, 64, recording, frame, rng).astype(int) for frame in disturbances(recording, 2, rng, 0.0)
    )
    assert 0 < np.abs(first - second).mean() < 25


def test_shake_stays_far_below_the_least_pan():
    rng = np.random.default_rng(1)
    offsets = [abs(frame.dx) for _ in range(200) for frame in disturbances(draw_recording(rng), 5, rng, 0.9)]
    assert max(offsets) < 0.05


def test_the_share_of_rough_recordings_is_the_requested_one():
    rng = np.random.default_rng(3)
    for share, expected in ((0.0, 0), (1.0, 50)):
        recordings = [draw_recording(rng, share) for _ in range(50)]
        assert (
            sum(one.shake > 0 for one in recordings) == sum(one.light > 0 for one in recordings) == expected
        )


def test_a_compressed_image_is_nearly_the_original():
    image = record(SCENE, 64, *steady())
    assert np.abs(decompressed(compressed(image, 95)).astype(int) - image).mean() < 6


def steady():
    rng = np.random.default_rng(2)
    recording = draw_recording(rng)
    return recording, disturbances(recording, 1, rng, 0.0)[0], rng
