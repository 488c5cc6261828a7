"""Opens the images of a dataset, which may come from strangers."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from kinescribe.schemas.dataset import IMAGE_FORMATS
from kinescribe.schemas.errors import DatasetError

MAX_PIXELS = 1 << 26
"""A small file may claim any number of them."""


def stored_image(data: bytes, least_size: tuple[int, int] | None = None) -> Image.Image:
    """The image in RGB; a JPEG may be decoded at a fraction of its size, but at no less than `least_size`.

    Raises DatasetError if the bytes are not a whole JPEG or PNG, or have more than `MAX_PIXELS`.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"it has {image.width}×{image.height} pixels")
            if least_size:
                image.draft("RGB", least_size)
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DatasetError(
            f"an image of the dataset cannot be read: {error}; `check` names damaged objects"
        ) from error
