"""The pictures of a report: a frame as thumbnail, and a target under the heat map of its importance.

The codec sees the shorter side resized and the centre cropped to a square; the heat map lies on that
square, and what the codec never saw is dimmed.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from schemas.dataset import IMAGE_FORMATS

LONGER_SIDE = 320
DIM = 0.35
# Share of the largest weight → colour and opacity: from nothing over yellow to red.
STOPS = (0.0, 0.15, 0.5, 1.0)
RED, GREEN, BLUE = (255, 255, 255, 214), (224, 214, 128, 20), (80, 60, 20, 40)
ALPHA = (0.0, 0.25, 0.6, 0.75)


def thumbnail(image: bytes) -> Image.Image:
    """The stored image in RGB at `LONGER_SIDE` pixels on its longer side."""
    with Image.open(io.BytesIO(image), formats=IMAGE_FORMATS) as stored:
        return enlarged(stored.convert("RGB"))


def enlarged(frame: Image.Image) -> Image.Image:
    """The frame at `LONGER_SIDE` pixels on its longer side."""
    scale = LONGER_SIDE / max(frame.size)
    size = (max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
    return frame.resize(size, Image.Resampling.LANCZOS)


def overlay(frame: Image.Image, importance: Sequence[float], grid: tuple[int, int]) -> Image.Image:
    """The frame with its row-major weights of shape `grid` (height, width) drawn over the centre square."""
    side = min(frame.size)
    left, top = (frame.width - side) // 2, (frame.height - side) // 2
    seen = frame.crop((left, top, left + side, top + side)).convert("RGBA")
    heat = Image.fromarray(_colours(np.asarray(importance, np.float32).reshape(grid)), "RGBA")
    seen.alpha_composite(heat.resize((side, side), Image.Resampling.NEAREST))
    picture = Image.blend(Image.new("RGB", frame.size), frame, DIM)
    picture.paste(seen.convert("RGB"), (left, top))
    return picture


def data_uri(picture: Image.Image) -> str:
    """The picture as a JPEG that a page can carry in itself."""
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()


def _colours(weights_hw: np.ndarray) -> np.ndarray:
    shares_hw = weights_hw / max(float(weights_hw.max(initial=0)), 1e-12)
    channels = (np.interp(shares_hw, STOPS, channel) for channel in (RED, GREEN, BLUE))
    alpha_hw = np.interp(shares_hw, STOPS, ALPHA) * 255
    return np.stack([*channels, alpha_hw], axis=-1).round().astype(np.uint8)
