import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from kinescribe.media.source_image import read_source_image
from kinescribe.media.still_images import upright_rgb
from kinescribe.schemas.errors import UserError


def left_red(size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Red on the left half, black on the right."""
    image = Image.new("RGB", size)
    image.paste((255, 0, 0), (0, 0, size[0] // 2, size[1]))
    return image


def refusal(source: str) -> str:
    with pytest.raises(UserError) as refused:
        read_source_image(source)
    return str(refused.value)


def test_an_image_is_rotated_as_its_exif_data_says(tmp_path: Path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the first row is the right-hand side
    left_red().save(tmp_path / "turned.png", exif=exif)
    pixels = np.asarray(read_source_image(str(tmp_path / "turned.png")))
    assert pixels.shape == (40, 20, 3)
    assert (pixels[:20] == (255, 0, 0)).all()
    assert (pixels[20:] == 0).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path, mode: str):
    Image.new(mode, (3, 2)).save(tmp_path / "image.png")
    assert read_source_image(str(tmp_path / "image.png")).mode == "RGB"


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_sixteen_bits_of_grey_keep_their_shades(tmp_path: Path, dtype: str):
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray((grey * 257).astype(dtype)).save(tmp_path / "image.tif")
    np.testing.assert_array_equal(np.asarray(read_source_image(str(tmp_path / "image.tif")))[..., 0], grey)


@pytest.mark.parametrize(("mode", "name"), [("F", "floating-point"), ("I", "32-bit")])
def test_pixels_without_a_known_range_are_refused(tmp_path: Path, mode: str, name: str):
    Image.new(mode, (3, 2)).save(tmp_path / "image.tif")
    assert f"has {name} pixels; save it with 8 bits" in refusal(str(tmp_path / "image.tif"))
    with pytest.raises(ValueError, match=f"has {name} pixels"):  # of a corpus too
        upright_rgb(Image.new(mode, (3, 2)))


def test_an_image_may_be_in_a_store():
    source = f"memory://{uuid.uuid4().hex}.png"
    with fsspec.open(source, "wb") as file:
        left_red().save(file, "PNG")
    assert read_source_image(source).tobytes() == left_red().tobytes()


def test_a_file_that_is_not_an_image_is_refused(tmp_path: Path):
    text, script = tmp_path / "text.png", tmp_path / "script.eps"
    text.write_text("not an image")
    left_red().save(script, "EPS")
    assert "is not an image; name one of JPEG" in refusal(str(text))
    assert "is not an image" in refusal(str(script))  # Pillow would have Ghostscript run it


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_truncated_image_is_refused(tmp_path: Path, format: str):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    image.save(tmp_path / "image", format)
    whole = (tmp_path / "image").read_bytes()
    (tmp_path / "image").write_bytes(whole[: len(whole) // 2])
    assert "name an intact image" in refusal(str(tmp_path / "image"))


def test_a_damaged_header_is_refused(tmp_path: Path):
    left_red().save(tmp_path / "image.png")
    data = bytearray((tmp_path / "image.png").read_bytes())
    data[11] = 5  # the length of the header's chunk, which Pillow calls a ValueError
    (tmp_path / "image.png").write_bytes(data)
    assert "cannot be read: Truncated IHDR chunk; name" in refusal(str(tmp_path / "image.png"))


@pytest.mark.parametrize("size", [(10_000, 9_000), (20_000, 9_000)])
def test_a_decompression_bomb_is_refused(tmp_path: Path, size: tuple[int, int]):
    Image.new("1", size).save(tmp_path / "bomb.png")
    assert "too large" in refusal(str(tmp_path / "bomb.png"))


def test_a_bomb_in_an_images_text_is_refused(tmp_path: Path):
    words = PngInfo()
    words.add_text("comment", "x" * (2 << 20), zip=True)
    left_red().save(tmp_path / "words.png", pnginfo=words)
    assert "cannot be read" in refusal(str(tmp_path / "words.png"))


def test_a_strip_is_refused(tmp_path: Path):
    Image.new("1", (1, 100)).save(tmp_path / "strip.png")
    assert read_source_image(str(tmp_path / "strip.png")).size == (1, 100)
    Image.new("1", (1, 101)).save(tmp_path / "strip.png")
    assert "too narrow" in refusal(str(tmp_path / "strip.png"))


def test_a_path_without_a_file_is_refused(tmp_path: Path):
    for source in ("nowhere.png", str(tmp_path), "/dev/zero"):
        assert "no such file" in refusal(source)
    assert "an empty name" in refusal("")
    assert "https://host/image.png cannot be opened" in refusal("https://host/image.png")
