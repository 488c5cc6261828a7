"""The images of a report: frames small enough for a page, and the heat map over a target.

The codec sees a square, which is a part of the frame, or all of it and bars, or all of it stretched. The heat
map covers that square with one pixel per token, and the page places it there.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from kinescribe.storage.stored_image import stored_image

LONGER_SIDE = 320
THUMBNAIL, SMALLEST = 256, 16
"""Longer sides of a thumbnail in pixels."""
BITS_PER_PIXEL = 1.2
"""The size of most frames as WebP at this size and quality."""
QUALITY = 75
# Share of the largest weight → colour and opacity: from transparent over yellow to red.
STOPS = (0.0, 0.15, 0.5, 1.0)
RED, GREEN, BLUE = (255, 255, 255, 214), (224, 214, 128, 20), (80, 60, 20, 40)
ALPHA = (0.0, 0.25, 0.6, 0.75)
LEVELS = 16
"""Steps from zero to the largest weight: half a byte per token."""


def thumbnail(image: bytes, max_bytes: int, longer_side: int = THUMBNAIL) -> bytes:
    """The stored image as WebP of at most `max_bytes`, `longer_side` pixels and its own size."""
    frame = stored_image(image)
    side = min(longer_side, max(frame.size), math.isqrt(int(8 * max_bytes / BITS_PER_PIXEL)))
    while True:
        frame.thumbnail((side, side), Image.Resampling.LANCZOS)
        data = io.BytesIO()
        frame.save(data, "WEBP", quality=QUALITY, method=2)
        if data.tell() <= max_bytes or side <= SMALLEST:
            return data.getvalue()
        side = max(SMALLEST, side * 3 // 4)


def enlarged(frame: Image.Image) -> Image.Image:
    """The frame at `LONGER_SIDE` pixels on its longer side."""
    scale = LONGER_SIDE / max(frame.size)
    size = (max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
    return frame.resize(size, Image.Resampling.LANCZOS)


def heat(importance: Sequence[float], grid: tuple[int, int]) -> bytes:
    """The row-major weights of shape `grid` (height, width) as a PNG that covers the codec's square."""
    weights_hw = np.asarray(importance, np.float32).reshape(grid)
    shares_hw = weights_hw / max(float(weights_hw.max(initial=0)), 1e-12)
    levels_hw = (shares_hw * (LEVELS - 1)).round().astype(np.uint8)
    picture = Image.frombytes("P", (grid[1], grid[0]), levels_hw.tobytes())
    colours = _colours(np.linspace(0, 1, LEVELS))
    picture.putpalette(colours[:, :3].tobytes())
    data = io.BytesIO()
    picture.save(data, "PNG", bits=4, transparency=colours[:, 3].tobytes(), optimize=True)
    return data.getvalue()


def data_uri(picture: Image.Image) -> str:
    """The image as a JPEG data URI."""
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=85)
    return encoded(jpeg.getvalue(), "jpeg")


def encoded(image: bytes, kind: str) -> str:
    """The bytes of an image as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _colours(shares: np.ndarray) -> np.ndarray:
    """RGBA of each share."""
    channels = (np.interp(shares, STOPS, channel) for channel in (RED, GREEN, BLUE))
    alpha = np.interp(shares, STOPS, ALPHA) * 255
    return np.stack([*channels, alpha], axis=-1).round().astype(np.uint8)
