from dataclasses import replace

import numpy as np

from kinescribe.simulation.scene import RGB, Camera, Scene, Thing, render

BALL = Thing("ball", "red", 0.5, 0.5, 0.15, 0.0)
SCENE = Scene((BALL,), Camera(), backdrop=1)


def centre_of(image: np.ndarray, colour: str) -> np.ndarray:
    near = np.abs(image.astype(int) - RGB[colour]).sum(-1) < 40
    return np.argwhere(near).mean(0)[::-1] / len(image)


def test_an_object_is_drawn_where_it_is_in_its_colour():
    image = render(SCENE, 64)
    assert image.shape == (64, 64, 3)
    np.testing.assert_allclose(centre_of(image, "red"), (0.5, 0.5), atol=0.02)


def test_what_a_camera_sees_shifts_against_its_motion():
    panned = render(replace(SCENE, camera=Camera(x=0.3)), 64)
    np.testing.assert_allclose(centre_of(panned, "red"), (0.7, 0.5), atol=0.02)


def test_zooming_in_magnifies():
    red = [
        (
            np.abs(render(replace(SCENE, camera=Camera(zoom=z)), 64).astype(int) - RGB["red"]).sum(-1) < 40
        ).sum()
        for z in (1.0, 1.5)
    ]
    np.testing.assert_allclose(red[1] / red[0], 1.5**2, rtol=0.15)


def test_a_roll_to_the_left_turns_the_picture_clockwise():
    above = replace(SCENE, things=(replace(BALL, y=0.2),))
    rolled = render(replace(above, camera=Camera(roll=20)), 64)
    assert centre_of(rolled, "red")[0] > 0.55


def test_the_backdrop_moves_with_the_camera():
    still, panned = (render(Scene((), Camera(x=x), 3), 64).astype(int) for x in (0.5, 0.75))
    assert np.abs(still[:, 16:] - panned[:, :48]).mean() < 3
    assert np.abs(still - panned).mean() > 8


def test_a_scene_is_always_drawn_the_same():
    assert (render(SCENE, 32) == render(SCENE, 32)).all()
