"""Measures of a key frame's quality, and perceptual hashes that find copies of a pair.

Called only inside the sandbox, on pictures in RGB before they are compressed. Knows nothing of videos or
datasets.

A hash has a bit for each of 128 low frequencies of the picture, squeezed to 64×64: the sign of its cosine
transform there. It doesn't change with brightness, contrast or size, and little with compression; a crop of
5 % changes one bit in eight, and two pictures that have nothing in common differ in half of the bits. The
first 8 bytes are frequencies that a mirrored picture shares, the other 8 those that it inverts.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from kinescribe.media.motion import Grey
from kinescribe.media.still_images import Rgb
from kinescribe.schemas.clips import FrameQuality

HASH_SIDE = 64
HASHED_SIDE = 32
"""Frequencies above it, of `HASH_SIDE`, are in no hash."""
BITS_PER_HALF = 64
BAR_LEVEL, BAR_SPREAD = 24, 8
"""A row or column of a bar is at most this bright, and its pixels differ by no more than that."""
CRUSHED, BLOWN = 3, 252
"""Grey levels: at most and at least."""
TEXT_SIDE = 320
"""Longer side of the picture in which text is looked for; the detector needs a multiple of 32."""
TEXT_PROBABILITY = 0.3
MAX_LINE_HEIGHT = 0.2
"""Of the picture's height. What the detector marks is a line of writing, or taller and a mistake."""

Small = NDArray[np.float32]
"""A grey picture of 64×64."""


class _Box(NamedTuple):
    """The part of a picture inside its bars, as shares of its height and width."""

    top: float
    bottom: float
    left: float
    right: float


def frame_quality(rgb: Rgb, small_grey: Grey, columns: Collection[str]) -> FrameQuality:
    """The measures of a picture that `columns` (of `schemas.config.QualityColumn`) ask for; else None.

    `small_grey` is the same picture, small. Sharpness, brightness and clipping are of the part inside bars.
    """
    box = _inside_bars(small_grey)
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    height, width = grey.shape
    top, bottom, left, right = box.top * height, box.bottom * height, box.left * width, box.right * width
    inside = grey[round(top) : max(round(bottom), 1), round(left) : max(round(right), 1)]
    counts = cv2.calcHist([inside], [0], None, [256], [0, 256]).ravel()
    clipped = counts[: CRUSHED + 1].sum() + counts[BLOWN:].sum()
    return FrameQuality(
        sharpness=_sharpness(inside) if "sharpness" in columns else None,
        brightness=float(counts @ np.arange(256)) / (255 * inside.size) if "brightness" in columns else None,
        clipping=float(clipped / inside.size) if "clipping" in columns else None,
        bars=1 - (box.bottom - box.top) * (box.right - box.left) if "bars" in columns else None,
        text_share=text_share(rgb) if "text" in columns else None,
        hash=perceptual_hash(hashable(small_grey)) if "hashes" in columns else None,
    )


def hashable(grey: Grey) -> Small:
    """The picture squeezed to the size that is hashed."""
    return cv2.resize(grey, (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def perceptual_hash(picture: Small) -> bytes:
    """The 16 bytes of a picture's hash. A difference of two pictures can be hashed too."""
    rows, columns = _frequencies()
    return np.packbits(cv2.dct(picture)[rows, columns] > 0).tobytes()


def change_hash(source: Grey, target: Grey) -> bytes:
    """The hash of what changes from one picture to the other: of target minus source."""
    return perceptual_hash(hashable(target) - hashable(source))


@cache
def _frequencies() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the cosine transform, lowest first: the even columns, then the odd ones.

    Mirroring changes the sign of the odd ones. The first of all, the mean, is left out.
    """
    side = range(HASHED_SIDE)
    places = sorted(((row, column) for row in side for column in side), key=lambda place: (sum(place), place))
    halves = ([place for place in places[1:] if place[1] % 2 == odd][:BITS_PER_HALF] for odd in (0, 1))
    rows, columns = np.array([place for half in halves for place in half]).T
    return rows, columns


def _sharpness(grey: Grey) -> float:
    """The variance of the Laplacian, in grey levels squared."""
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return float(deviation[0, 0]) ** 2


def _inside_bars(grey: Grey) -> _Box:
    """The part without black bars; all of a picture that is black throughout."""
    top, bottom = _content(grey)
    left, right = _content(grey[top:bottom].T)
    height, width = grey.shape
    return _Box(top / height, bottom / height, left / width, right / width)


def _content(grey: Grey) -> tuple[int, int]:
    """The first row that is in no bar, and the end of the last."""
    highest = grey.max(axis=1)
    is_bar = (highest <= BAR_LEVEL) & (highest - grey.min(axis=1) <= BAR_SPREAD)
    places = np.flatnonzero(~is_bar)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, len(grey))


def text_share(rgb: Rgb) -> float:
    """The share of the picture that a text detector marks as lines (about 0.1 s a picture on one core)."""
    scale = TEXT_SIDE / max(rgb.shape[:2])
    height, width = (max(32, round(length * scale / 32) * 32) for length in rgb.shape[:2])
    # From -1 to 1, in BGR.
    blob = cv2.dnn.blobFromImage(rgb, 1 / 127.5, (width, height), (127.5, 127.5, 127.5), swapRB=True)
    net = _text_detector()
    net.setInput(blob)
    is_text = (np.asarray(net.forward())[0, 0] > TEXT_PROBABILITY).astype(np.uint8)
    _, _, marks, _ = cv2.connectedComponentsWithStats(is_text)
    lines = marks[1:][marks[1:, cv2.CC_STAT_HEIGHT] <= MAX_LINE_HEIGHT * height]
    return float(lines[:, cv2.CC_STAT_AREA].sum() / is_text.size)


def text_model() -> Path | None:
    """The file with the weights of the text detector, which the package rapidocr brings; None without it."""
    package = find_spec("rapidocr")
    folders = (package.submodule_search_locations if package else None) or []
    return next((model for folder in folders for model in Path(folder, "models").glob("*_det_*.onnx")), None)


@cache
def _text_detector() -> Any:
    # OpenCV runs it in this thread and within the sandbox's memory limit.
    return cv2.dnn.readNetFromONNX(str(text_model()))
