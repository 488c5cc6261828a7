"""Disturbances between a scene and a recorded frame: shake, light, sensor noise and compression.

None of them can be mistaken for an action: shake stays far below the smallest pan, and light changes all
colours alike. Knows nothing of actions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator

from kinescribe.simulation.scene import Camera, Image, Scene, render

ROUGH_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Recording:
    """The strength of a clip's disturbances. Each frame draws its own."""

    shake: float
    """Standard deviation of the camera's position, in units of the view's side."""
    light: float
    """Standard deviation of the relative brightness."""
    noise: float
    """Standard deviation of a pixel, of 255."""
    jpeg_quality: int


@dataclass(frozen=True, slots=True)
class Disturbance:
    """The difference of one frame from an ideal one: the camera's offset and roll, and relative
    brightness."""

    dx: float
    dy: float
    roll: float
    light: float


def draw_recording(rng: Generator, rough_share: float = ROUGH_SHARE) -> Recording:
    """The recording of a clip: steady, or with probability `rough_share` shaky, flickering and noisy."""
    rough = float(rng.random() < rough_share)
    return Recording(
        shake=rough * rng.uniform(0, 0.006),
        light=rough * rng.uniform(0, 0.07),
        noise=rng.uniform(0, 2) + rough * rng.uniform(0, 5),
        jpeg_quality=int(rng.integers(60, 98)),
    )


def disturbances(
    recording: Recording, num_frames: int, rng: Generator, persistence: float
) -> list[Disturbance]:
    """One disturbance per frame. `persistence` in [0, 1) is the correlation of successive frames."""
    scale = np.array([recording.shake] * 2 + [60 * recording.shake, recording.light])
    state = rng.normal(0, 1, 4)
    drawn: list[Disturbance] = []
    for _ in range(num_frames):
        drawn.append(Disturbance(*(state * scale).tolist()))
        state = persistence * state + (1 - persistence**2) ** 0.5 * rng.normal(0, 1, 4)
    return drawn


def record(scene: Scene, side: int, recording: Recording, frame: Disturbance, rng: Generator) -> Image:
    """The recorded scene, with shake, light and noise: uint8 (side, side, 3)."""
    camera: Camera = scene.camera
    moved = replace(camera, x=camera.x + frame.dx, y=camera.y + frame.dy, roll=camera.roll + frame.roll)
    image = render(replace(scene, camera=moved), side)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * recording.noise
    return np.clip(image * np.float32(1 + frame.light) + noise, 0, 255).astype(np.uint8)


def compressed(image: Image, quality: int) -> bytes:
    """The image as JPEG."""
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()


def decompressed(data: bytes) -> Image:
    """RGB (H, W, 3) from JPEG."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8, copy=False)
