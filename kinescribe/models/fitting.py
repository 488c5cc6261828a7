"""Pictures of any proportions as squares, and back: `Fit` says how.

Knows neither codecs nor models.
"""

from __future__ import annotations

from PIL import Image

from kinescribe.schemas.codes import Fit

MAX_ASPECT_RATIO = 8
"""Of narrower pictures, only the middle is scaled and cropped, which doesn't change what is seen."""
BARS = (122, 116, 104)
"""The colour of bars, with which Liquid and LLaVA pad: the mean colour of CLIP's pictures."""


def fitted(image: Image.Image, side: int, fit: Fit) -> Image.Image:
    """The picture as a square in RGB."""
    if fit == "crop":
        return _cropped(image, side)
    size = (side, side) if fit == "stretch" else _inner_size(image.size, side)
    whole = _resized(image, size).convert("RGB")
    if size == (side, side):
        return whole
    square = Image.new("RGB", (side, side), BARS)
    square.paste(whole, _corner(size, side))
    return square


def restored(square: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """What a square shows, in the proportions of the picture of `size` (width, height) that it was made of.

    A crop stays a square.
    """
    inner = _inner_size(size, square.width)
    if fit == "crop" or inner == square.size:
        return square
    if fit == "stretch":
        return square.resize(inner, Image.Resampling.BICUBIC)
    left, top = _corner(inner, square.width)
    return square.crop((left, top, left + inner[0], top + inner[1]))


def _inner_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size (width, height) of a picture whose longer side is scaled to `side`."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _cropped(image: Image.Image, side: int) -> Image.Image:
    reach = MAX_ASPECT_RATIO * min(image.size)
    if max(image.size) > reach:  # scaling all of a very narrow image would take gigabytes
        left, top = (max(0, (length - reach) // 2) for length in image.size)
        image = image.crop((left, top, left + min(image.width, reach), top + min(image.height, reach)))
    width, height = image.size
    scale = side / min(width, height)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return _resized(image, size).convert("RGB").crop((left, top, left + side, top + side))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if size == image.size:
        return image
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _corner(inner: tuple[int, int], side: int) -> tuple[int, int]:
    """The upper left corner of a picture in the middle of the square."""
    return (side - inner[0]) // 2, (side - inner[1]) // 2
