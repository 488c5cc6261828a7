"""Reads still images from untrusted files, and encodes frames as the dataset stores them.

Images are read only inside the sandbox. Knows nothing of videos, pairs or datasets.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from kinescribe.media.motion import PAIR_SIDE, Grey, grey_size, pair_motion
from kinescribe.media.probe import check_pixels
from kinescribe.schemas.config import DecodeLimits, StoredImage
from kinescribe.schemas.outcomes import RejectCode, Rejected

Rgb = NDArray[np.uint8]
"""A picture of shape (height, width, 3)."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
RANGELESS_MODES = {"I": "32-bit", "F": "floating-point"}
"""Modes of Pillow that don't define which value is white."""
JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
"""A marker of a JPEG: 0xff and a byte that can't follow it in compressed data."""


def read_image(file: BinaryIO, limits: DecodeLimits, max_side: int) -> Rgb:
    """The picture (the first of several), rotated upright, with at most `max_side` on the longer side.

    Transparency is ignored. Raises Rejected if the file isn't a whole image or has too many pixels.
    """
    data = file.read()
    try:
        # Pillow warns below its own limit; the one of `limits` is stricter.
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(io.BytesIO(data), formats=FORMATS) as image,
        ):
            check_pixels(*image.size, limits)
            image.load()
            upright = upright_rgb(image)
    except Image.DecompressionBombError as error:
        raise Rejected(RejectCode.TOO_LARGE, str(error)) from error
    except UnidentifiedImageError as error:
        raise Rejected(
            RejectCode.UNREADABLE, f"not an image; the formats are {', '.join(FORMATS)}"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Rejected(RejectCode.UNREADABLE, str(error)) from error
    if data.startswith(b"\xff\xd8") and not _is_complete(data):
        raise Rejected(RejectCode.UNREADABLE, "a truncated JPEG")
    return shrunk(np.asarray(upright), max_side)


def upright_rgb(image: Image.Image) -> Image.Image:
    """The image rotated as its EXIF data says, in RGB of 8 bits, without transparency.

    The upper 8 bits of 16-bit pixels are kept, as Pillow does for colour images. Raises ValueError for pixels
    without a known range: 32-bit integers and floating-point numbers.
    """
    if image.mode in RANGELESS_MODES:
        raise ValueError(f"it has {RANGELESS_MODES[image.mode]} pixels; save it with 8 bits")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        upright = upright.convert("I").point(lambda value: value / 256).convert("L")
    return upright.convert("RGB")


def shrunk(rgb: Rgb, max_side: int) -> Rgb:
    """The picture with at most `max_side` on its longer side, never enlarged."""
    height, width = rgb.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    return resized(rgb, max(1, round(width * scale)), max(1, round(height * scale)))


def resized(rgb: Rgb, width: int, height: int) -> Rgb:
    """The picture at another size, whatever its proportions."""
    if rgb.shape[:2] == (height, width):
        return rgb
    shrinks = width <= rgb.shape[1] and height <= rgb.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=method), np.uint8)


def motion_between(source: Rgb, target: Rgb) -> float:
    """`pair_motion` of two pictures of the same size."""
    return pair_motion(small_grey(source), small_grey(target))


def small_grey(rgb: Rgb) -> Grey:
    """The small grey picture on which the motion of a pair is measured."""
    size = grey_size(rgb.shape[1], rgb.shape[0], PAIR_SIDE)
    grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.uint8)


def stored(rgb: Rgb, image: StoredImage) -> bytes:
    """The picture as a JPEG or PNG file."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, image.quality] if image.format == "jpeg" else []
    _, encoded = cv2.imencode(f".{image.format}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), flags)
    return encoded.tobytes()


def _is_complete(jpeg: bytes) -> bool:
    """Whether the picture ends with an end marker; one of a thumbnail in the header doesn't count.

    A file of the right length without its last part is decoded without an error, and the rest is grey.
    """
    place = 2
    while marker := JPEG_MARKER.search(jpeg, place):
        if marker[1] == b"\xd9":
            return True
        # Other markers state the length of what follows, for example of a thumbnail.
        place = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2])
    return False
