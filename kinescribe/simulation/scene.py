"""The state of the simulated world, and how it is drawn.

Lengths are in units of the view's side: the camera in its initial position sees the square [0, 1]². Knows
nothing of actions or of video files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

RGB = {
    "red": (225, 35, 35),
    "green": (40, 185, 60),
    "blue": (45, 85, 235),
    "yellow": (245, 220, 40),
    "purple": (165, 50, 200),
    "white": (245, 245, 245),
}
_OUTLINES = {
    "box": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0.0, -1.15), (1.0, 0.75), (-1.0, 0.75)],
    "cross": [
        *((-0.36, -1.1), (0.36, -1.1), (0.36, -0.36), (1.1, -0.36), (1.1, 0.36), (0.36, 0.36)),
        *((0.36, 1.1), (-0.36, 1.1), (-0.36, 0.36), (-1.1, 0.36), (-1.1, -0.36), (-0.36, -0.36)),
    ],
    "ball": [(np.cos(angle), np.sin(angle)) for angle in np.linspace(0, 2 * np.pi, 40, endpoint=False)],
    "star": [
        (length * np.sin(angle), -length * np.cos(angle))
        for length, angle in zip((1.2, 0.5) * 5, np.linspace(0, 2 * np.pi, 10, endpoint=False), strict=True)
    ],
    "arrow": [
        (0.0, -1.2),
        (0.95, -0.15),
        (0.4, -0.15),
        (0.4, 1.0),
        (-0.4, 1.0),
        (-0.4, -0.15),
        (-0.95, -0.15),
    ],
    "heart": [
        (np.sin(angle) ** 3, -(13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle)) / 13)
        for angle in np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ],
    "moon": [
        *((np.cos(angle), np.sin(angle)) for angle in np.deg2rad(np.linspace(52.4, 307.6, 30))),
        *((0.5 + 0.8 * np.cos(angle), 0.8 * np.sin(angle)) for angle in np.deg2rad(np.linspace(278, 82, 20))),
    ],
}
SHAPES = ("ball", "box", "triangle", "cross")
NEW_SHAPES = ("star", "arrow", "heart", "moon")
"""Shapes that the embedded models never saw in training."""
_MARGIN = 0.75
"""How far the backdrop extends beyond the initial view, on each side."""
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, slots=True)
class Thing:
    """An object: its centre, radius, and angle in degrees."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True, slots=True)
class Camera:
    """The camera: centre of the view, magnification, roll in degrees anticlockwise."""

    x: float = 0.5
    y: float = 0.5
    zoom: float = 1.0
    roll: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that a frame shows."""

    things: tuple[Thing, ...]
    camera: Camera
    backdrop: int
    """Seed of the background's texture."""
    shapes: tuple[str, ...] = SHAPES
    """The shapes of objects that may be added."""


def render(scene: Scene, side: int) -> Image:
    """The scene as (side, side, 3) RGB."""
    view_23 = _view(scene.camera, side)
    canvas = _backdrop(scene.backdrop, side)
    to_canvas = np.array([[1 / side, 0, -_MARGIN], [0, 1 / side, -_MARGIN], [0, 0, 1]])
    image: Image = cv2.warpAffine(  # pyright: ignore[reportAssignmentType]
        canvas,
        (view_23 @ to_canvas)[:2],
        (side, side),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    for thing in scene.things:
        _draw(image, thing, view_23)
    return image


def draw_thing(image: Image, thing: Thing, camera: Camera) -> None:
    """Draw one more object into a rendered view of that camera."""
    _draw(image, thing, _view(camera, image.shape[0]))


def project(points_N2: NDArray[np.float64], camera: Camera, side: int) -> NDArray[np.float64]:
    """Points of the world as (x, y) in pixels of the view."""
    view_33 = _view(camera, side)
    return points_N2 @ view_33[:2, :2].T + view_33[:2, 2]


def seen_before(before: Camera, after: Camera, side: int) -> Image:
    """(side, side): 255 for each pixel of the view `after` that the view `before` also showed, else 0."""
    moved_33 = _view(after, side) @ np.linalg.inv(_view(before, side))
    inner = np.zeros((side, side), np.uint8)
    inner[1:-1, 1:-1] = 255
    mask: Image = cv2.warpAffine(inner, moved_33[:2], (side, side), flags=cv2.INTER_NEAREST)  # pyright: ignore[reportAssignmentType]
    return mask


def _view(camera: Camera, side: int) -> NDArray[np.float64]:
    """3×3 matrix from the world to pixels."""
    angle = np.deg2rad(camera.roll)
    scale = camera.zoom * side
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0, 0, 1]])
    matrix[:2, 2] = side / 2 - matrix[:2, :2] @ (camera.x, camera.y)
    return matrix


def _draw(image: NDArray[np.uint8], thing: Thing, view_33: NDArray[np.float64]) -> None:
    angle = np.deg2rad(thing.angle)
    turn_22 = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    outline_N2 = np.array(_OUTLINES[thing.shape]) * thing.radius @ turn_22.T + (thing.x, thing.y)
    pixels_N2 = outline_N2 @ view_33[:2, :2].T + view_33[:2, 2]
    points = [np.round(pixels_N2 * 2**_SUBPIXEL_BITS).astype(np.int32)]
    colour = RGB[thing.colour]
    edge = tuple(int(0.45 * channel) for channel in colour)
    cv2.fillPoly(image, points, colour, cv2.LINE_AA, _SUBPIXEL_BITS)
    thickness = max(1, round(image.shape[0] / 64))
    cv2.polylines(image, points, True, edge, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


@lru_cache(maxsize=32)
def _backdrop(seed: int, side: int) -> Image:
    """A square texture of (1 + 2·margin)·side pixels, rich enough to show any camera motion.

    It has noise of several sizes and scattered discs and bars, in muted colours, so that no part of it looks
    like an object.
    """
    rng = np.random.default_rng([seed, 7])
    full = round(side * (1 + 2 * _MARGIN))
    base = rng.uniform(60, 150) + rng.normal(0, 12, 3)
    image = np.empty((full, full, 3), np.float32)
    image[:] = base
    for cells, strength in ((4, 30), (10, 24), (26, 10), (60, 5)):
        grey = rng.normal(0, 1, (cells, cells, 1)) + 0.35 * rng.normal(0, 1, (cells, cells, 3))
        layer = cv2.resize(grey.astype(np.float32), (full, full), interpolation=cv2.INTER_CUBIC)
        image += strength * rng.uniform(0.4, 1.0) * layer
    for _ in range(int(rng.integers(14, 34))):
        shade = np.clip(base + rng.normal(0, 38) + rng.normal(0, 10, 3), 20, 215).tolist()
        centre = rng.integers(0, full, 2).tolist()
        length = float(rng.uniform(0.03, 0.12) * full)
        if rng.random() < 0.5:
            cv2.circle(image, centre, round(length * 0.7), shade, -1, cv2.LINE_AA)
        else:
            angle = rng.uniform(0, np.pi)
            end = (
                centre[0] + round(3 * length * np.cos(angle)),
                centre[1] + round(3 * length * np.sin(angle)),
            )
            cv2.line(image, centre, end, shade, max(1, round(length * 0.35)), cv2.LINE_AA)
    return np.clip(image, 0, 215).astype(np.uint8)
