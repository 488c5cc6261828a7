import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kinescribe.media.still_images import FORMATS, read_image, resized, shrunk, stored
from kinescribe.schemas.config import DecodeLimits, StoredImage
from kinescribe.schemas.outcomes import RejectCode, Rejected
from tests.videos import texture

LIMITS = DecodeLimits()


def picture(width: int = 160, height: int = 120) -> Image.Image:
    return Image.fromarray(texture(0, width, height))


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def read(data: bytes, max_side: int = 512):
    return read_image(io.BytesIO(data), LIMITS, max_side)


def code_of(data: bytes, limits: DecodeLimits = LIMITS) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        read_image(io.BytesIO(data), limits, 512)
    return caught.value.code


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_each_format_is_read(kind: str):
    buffer = io.BytesIO()
    picture().save(buffer, kind)
    rgb = read(buffer.getvalue())
    assert (rgb.shape, rgb.dtype) == ((120, 160, 3), np.uint8)
    assert np.abs(rgb.astype(int) - np.asarray(picture(), int)).mean() < 12


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_other_colours_become_rgb(mode: str):
    buffer = io.BytesIO()
    picture().convert(mode).save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    assert read(buffer.getvalue()).shape == (120, 160, 3)


def test_sixteen_bits_of_grey_keep_their_shades():
    grey = np.asarray(picture().convert("L"))
    buffer = io.BytesIO()
    Image.fromarray(grey.astype(np.uint16) * 257).save(buffer, "PNG")
    np.testing.assert_array_equal(read(buffer.getvalue())[..., 0], grey)


def test_a_large_image_is_shrunk_and_a_small_one_is_not():
    assert read(jpeg(picture(800, 400)), 512).shape == (256, 512, 3)
    assert read(jpeg(picture(80, 48)), 512).shape == (48, 80, 3)


def test_an_image_is_rotated_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read(jpeg(picture(), exif=exif)).shape == (160, 120, 3)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_truncated_jpeg_is_unreadable(share: float, progressive: bool):
    whole = jpeg(picture(), progressive=progressive)
    kept = int(share * len(whole))
    assert code_of(whole[:kept]) == RejectCode.UNREADABLE
    # As a download that was given its length at once and never came to its end.
    assert code_of(whole[:kept].ljust(len(whole), b"\0")) == RejectCode.UNREADABLE


def test_the_end_marker_of_a_thumbnail_does_not_count():
    exif = b"Exif\0\0" + jpeg(picture(40, 24))
    whole = jpeg(picture())
    with_thumbnail = whole[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + whole[2:]
    assert read(with_thumbnail).shape == (120, 160, 3)
    cut = with_thumbnail[:-2000].ljust(len(with_thumbnail), b"\0")
    assert code_of(cut) == RejectCode.UNREADABLE


def test_bytes_after_a_whole_jpeg_are_ignored():
    trailer = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
    assert read(jpeg(picture()) + trailer).shape == (120, 160, 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_truncated_images_of_other_formats_are_unreadable(kind: str):
    buffer = io.BytesIO()
    picture().save(buffer, kind)
    half = buffer.getvalue()[: len(buffer.getvalue()) // 2]
    assert code_of(half) == RejectCode.UNREADABLE


def test_a_file_that_is_not_an_image_is_unreadable():
    assert code_of(b"<html>404</html>") == RejectCode.UNREADABLE
    assert code_of(b"") == RejectCode.UNREADABLE
    # A kind that can name other files or run code is not among those read.
    assert code_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == (RejectCode.UNREADABLE)


def test_a_bomb_is_refused_by_its_header():
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    assert code_of(bomb) == RejectCode.TOO_LARGE
    assert code_of(jpeg(picture()), DecodeLimits(max_pixels=100)) == RejectCode.TOO_LARGE


def test_an_image_is_stored_as_configured():
    rgb = np.asarray(picture())
    png = np.asarray(Image.open(io.BytesIO(stored(rgb, StoredImage(format="png")))))
    np.testing.assert_array_equal(png, rgb)
    assert stored(rgb, StoredImage()).startswith(b"\xff\xd8")


def test_an_image_takes_any_size():
    rgb = np.asarray(picture(100, 100))
    assert resized(rgb, 160, 90).shape == (90, 160, 3)
    assert resized(rgb, 50, 50).shape == (50, 50, 3)
    assert resized(rgb, 100, 100) is rgb


def test_sixteen_bits_keep_their_upper_eight():
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    buffer = io.BytesIO()
    Image.fromarray(grey * 256).save(buffer, "PNG")
    np.testing.assert_array_equal(read(buffer.getvalue())[..., 0], grey)


def test_a_strip_keeps_one_pixel():
    assert shrunk(np.zeros((1, 2000, 3), np.uint8), 512).shape == (1, 512, 3)
    assert shrunk(np.zeros((2000, 1, 3), np.uint8), 512).shape == (512, 1, 3)


def test_a_reject_says_what_is_wrong():
    def message(data: bytes) -> str:
        with pytest.raises(Rejected) as caught:
            read_image(io.BytesIO(data), LIMITS, 512)
        return caught.value.message

    tiff = io.BytesIO()
    picture().save(tiff, "TIFF")
    assert message(tiff.getvalue()).endswith(", ".join(FORMATS))
    whole = jpeg(picture())
    kept = len(whole) // 2
    assert message(whole[:kept] + bytes(len(whole) - kept)) == "a truncated JPEG"
    png = io.BytesIO()
    picture().save(png, "PNG")
    assert "truncated" in message(png.getvalue()[:1000])
