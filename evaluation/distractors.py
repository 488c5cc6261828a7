"""What lies between a scene and a recorded frame: shake, light, sensor noise and compression.

Drawn so that none of it can be taken for an action: shake stays far below the least pan, light moves
all colours alike. Knows nothing of actions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator

from evaluation.scene import Camera, Image, Scene


@dataclass(frozen=True, slots=True)
class Recording:
    """How strongly one clip is disturbed; each frame then draws its own disturbance."""

    shake: float
    """Standard deviation of the camera's position, in units of the view's side."""
    light: float
    """Standard deviation of the relative brightness."""
    noise: float
    """Standard deviation of a pixel, of 255."""
    jpeg_quality: int


def draw_recording(rng: Generator) -> Recording:
    """Half of all clips are steady; the rest are hand-held, flickering or dim."""
    rough = float(rng.random() < 0.5)
    return Recording(
        shake=rough * rng.uniform(0, 0.006),
        light=rough * rng.uniform(0, 0.07),
        noise=rng.uniform(0, 2) + rough * rng.uniform(0, 7),
        jpeg_quality=int(rng.integers(60, 98)),
    )


def shaken(scene: Scene, recording: Recording, rng: Generator) -> Scene:
    """The scene as a hand-held camera sees it."""
    camera: Camera = scene.camera
    dx, dy, roll = rng.normal(0, recording.shake, 3)
    moved = replace(camera, x=camera.x + dx, y=camera.y + dy, roll=camera.roll + 60 * roll)
    return replace(scene, camera=moved)


def exposed(image: Image, recording: Recording, rng: Generator) -> Image:
    """The image under a drawn light and with sensor noise, uint8 (H, W, 3)."""
    gain = 1 + rng.normal(0, recording.light)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * recording.noise
    return np.clip(image * np.float32(gain) + noise, 0, 255).astype(np.uint8)


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
