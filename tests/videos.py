"""Small video files for tests. Every frame shows its number, so that a test can tell which frame it has."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
WIDTH, HEIGHT = 160, 120
NUM_BITS = 8
CLOCK = 90_000


def texture(seed: int, width: int = 4 * WIDTH, height: int = 2 * HEIGHT) -> Image:
    """Soft coloured blobs, rich enough for motion to show."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def numbered(image: Image, number: int) -> Image:
    """The image with the number in binary along its upper edge, in squares that survive compression."""
    image = image.copy()
    side = image.shape[1] // NUM_BITS
    for bit in range(NUM_BITS):
        image[:12, bit * side : (bit + 1) * side] = 255 * (number >> bit & 1)
    return image


def number_of(image: Image) -> int:
    """The number along the upper edge of an image of any size."""
    height, width = image.shape[:2]
    row = image[max(1, height // 24)].reshape(width, -1).mean(axis=1)
    centres = [int((bit + 0.5) * width / NUM_BITS) for bit in range(NUM_BITS)]
    return sum(int(row[x] > 127) << bit for bit, x in enumerate(centres))


def pan(num_frames: int, step: float = 1.5, seed: int = 0, first: int = 0) -> list[Image]:
    """A camera that moves to the right by `step` pixels a frame; numbers count from `first`."""
    wide = texture(seed)
    return [
        numbered(wide[:HEIGHT, (x := round(index * step)) : x + WIDTH], first + index)
        for index in range(num_frames)
    ]


def whip_pan(num_frames: int, num_fast: int, seed: int = 0) -> list[Image]:
    """A camera that turns by a picture's width within `num_fast` frames in the middle, with motion blur."""
    wide = texture(seed)[:HEIGHT].astype(np.float64)
    share = np.clip((np.arange(num_frames * 8) / 8 - num_frames // 2) / num_fast, 0, 1)
    places = np.rint(WIDTH * share * share * (3 - 2 * share)).astype(int)
    return [
        np.mean([wide[:, x : x + WIDTH] for x in exposed], 0).astype(np.uint8)
        for exposed in places.reshape(num_frames, 8)
    ]


def still(num_frames: int, noise: float = 0.0, seed: int = 0) -> list[Image]:
    """The same view in every frame, with fresh noise of that standard deviation, without numbers."""
    random = np.random.default_rng(seed)
    view = texture(seed)[:HEIGHT, :WIDTH].astype(np.float64)
    return [
        np.clip(view + random.normal(0, noise, view.shape), 0, 255).astype(np.uint8)
        for _ in range(num_frames)
    ]


def write_video(
    path: Path,
    frames: Sequence[Image],
    *,
    times_s: Sequence[float] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rotation: int = 0,
    matrix: Sequence[int] = (),
    pixel_aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """Encode the frames, at 30 a second unless their times are given. The suffix names the container.

    `matrix` are a, b, c and d of the display matrix.
    """
    times_s = times_s or [index / 30 for index in range(len(frames))]
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=30, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if path.suffix in (".mp4", ".mkv"):
            stream.time_base = stream.codec_context.time_base = Fraction(1, CLOCK)
        ticks_per_s = CLOCK if path.suffix in (".mp4", ".mkv") else 30
        if rotation:
            stream.set_display_rotation(rotation)
        if matrix:
            a, b, c, d = (value << 16 for value in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for image, time_s in zip(frames, times_s, strict=True):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            picture.pts, picture.time_base = round(time_s * ticks_per_s), Fraction(1, ticks_per_s)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def write_audio(path: Path) -> Path:
    """A file with a second of silence and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        for index in range(40):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            sound.sample_rate, sound.pts = 44_100, index * 1024
            container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return path
