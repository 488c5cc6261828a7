"""Reads the image that a user names by a path or URL, or explains why it can't be used.

Treats pixels as `still_images` does. Knows nothing of codecs and models.
"""

from __future__ import annotations

import warnings

from PIL import Image, UnidentifiedImageError

from kinescribe.media.still_images import FORMATS, upright_rgb
from kinescribe.schemas.errors import InputError, UserError
from kinescribe.storage import objects

SOURCE_FORMATS = (*FORMATS, "TIFF")
"""Formats that Pillow reads itself; for some others it would run another program."""
MAX_ASPECT_RATIO = 100
"""The codec scales the shorter side to its own size, and the longer one in proportion."""


def read_source_image(source: str) -> Image.Image:
    """The image at a path or URL, rotated upright, in RGB. Raises InputError if it can't be used."""
    try:
        if not objects.is_file(source):
            raise InputError(f"source {source}: there is no such file; name an image")
        with objects.local_copy(source) as path, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=SOURCE_FORMATS) as image:
                if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
                    raise InputError(f"source {source} is too narrow: {image.size} pixels; crop it")
                return upright_rgb(image)
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"source {source} is too large: {error}; scale it down") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"source {source} is not an image; name one of {', '.join(SOURCE_FORMATS)}"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"source {source} cannot be read: {error}; name an intact image") from error
