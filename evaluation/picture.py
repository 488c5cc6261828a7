"""An image of the user's, from a path or a URL: whatever is wrong with it is said in words.

Knows nothing of codecs and models.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps

from schemas.errors import InputError, UserError
from storage import uri

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Those that Pillow reads by itself: it would run another program on some."""
NARROWEST = 100
"""The codec scales the shorter side to its own, and the longer one with it."""
WIDE = {"I": "32-bit", "F": "floating-point"}
"""Modes of Pillow whose numbers do not say which is white."""


def read_picture(source: str) -> Image.Image:
    """The image, turned as its EXIF data says, in RGB. Raises InputError where it is none."""
    try:
        if not uri.is_file(source):
            raise InputError(f"source {source}: there is no such file; name an image")
        with uri.local_copy(source) as path, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as stored:
                if max(stored.size) > NARROWEST * min(stored.size):
                    raise InputError(f"source {source} is too narrow: {stored.size} pixels; crop it")
                if stored.mode in WIDE:
                    raise InputError(f"source {source} has {WIDE[stored.mode]} pixels; save it with 8 bits")
                return _eight_bit(ImageOps.exif_transpose(stored)).convert("RGB")
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"source {source} is too large: {error}; scale it down") from error
    except Image.UnidentifiedImageError as error:
        raise InputError(f"source {source} is no image; name one of {', '.join(FORMATS)}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"source {source} cannot be read: {error}; name an image that is whole") from error


def leads_out_of_folder(path: str) -> bool:
    """Whether a path that a list names is not of the list's own folder, as it is written."""
    return Path(path).is_absolute() or ".." in Path(path).parts


def _eight_bit(image: Image.Image) -> Image.Image:
    """Of pixels of 16 bits the upper 8, as Pillow takes them where a picture has colours."""
    if not image.mode.startswith("I;16"):
        return image
    return image.convert("I").point(lambda value: value / 256).convert("L")
