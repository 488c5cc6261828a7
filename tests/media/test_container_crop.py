import io
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinescribe.media.container_crop import Element, _elements, boxes
from kinescribe.media.decode import open_video
from kinescribe.schemas.outcomes import Note
from tests.videos import pan, write_video

LEFT, TOP, RIGHT, BOTTOM = 20, 10, 30, 12
MATROSKA = [(0x18538067, 0), (0x1654AE6B, 0), (0xAE, 0), (0xE0, 0)]
MP4 = [(b"moov", 0), (b"trak", 0), (b"mdia", 0), (b"minf", 0), (b"stbl", 0), (b"stsd", 8), (b"avc1", 78)]
Level = Callable[[Any, Element], Iterator[Element]]


def with_added(path: Path, level: Level, names: Sequence[tuple[int | bytes, int]], added: bytes) -> None:
    """Put bytes at the end of the innermost of these nested elements, each with the length of its prefix."""
    data = path.read_bytes()

    def rebuilt(span: Element, names: Sequence[tuple[int | bytes, int]], prefix: int) -> bytes:
        if not names:
            return data[span.start : span.end] + added
        (name, next_prefix), *rest = names
        new, place = data[span.start : span.start + prefix], span.start + prefix
        for element in level(io.BytesIO(data), span._replace(start=place)):
            if element.name == name:
                content = rebuilt(element, rest, next_prefix)
                new += headed(name, content)
            else:
                new += data[place : element.end]
            place = element.end
        return new

    path.write_bytes(rebuilt(Element(0, 0, len(data)), names, 0))


def headed(name: int | bytes, content: bytes) -> bytes:
    if isinstance(name, bytes):
        return struct.pack(">I4s", len(content) + 8, name) + content
    return name.to_bytes((name.bit_length() + 7) // 8) + struct.pack(">Q", len(content) | 1 << 56) + content


def cropped_video(folder: Path, suffix: str) -> Path:
    path = write_video(folder / f"clip.{suffix}", pan(10))
    if suffix == "mkv":
        pixels = {0x54CC: LEFT, 0x54BB: TOP, 0x54DD: RIGHT, 0x54AA: BOTTOM}
        sides = b"".join(struct.pack(">HBB", name, 0x81, number) for name, number in pixels.items())
        with_added(path, _elements, MATROSKA, sides)
    else:
        # Width, height, and the centre's way from the middle, as fractions.
        numbers = (160 - 50, 1, 120 - 22, 1, LEFT - RIGHT, 2, TOP - BOTTOM, 2)
        with_added(path, boxes, MP4, headed(b"clap", struct.pack(">IIIIiIiI", *numbers)))
    return path


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_the_picture_is_cropped_as_its_container_says(tmp_path: Path, suffix: str):
    whole = write_video(tmp_path / f"whole.{suffix}", pan(10))
    with open_video(whole) as video:
        uncropped = [frame.rgb(512) for frame in video.frames()]
    with open_video(cropped_video(tmp_path, suffix)) as video:
        frames = list(video.frames())
    assert len(frames) == 10
    for frame, picture in zip(frames, uncropped, strict=True):
        inner = picture[TOP : 120 - BOTTOM, LEFT : 160 - RIGHT]
        assert np.array_equal(frame.rgb(512), inner)
        assert (frame.width, frame.height) == (110, 98)
        small = frame.luma(110, 98).astype(int)
        assert np.abs(small - inner.mean(-1)).mean() < 25  # luma has another range than RGB
        assert frame.rgb(55).shape == (49, 55, 3)
        assert frame.notes == {Note.CROPPED}


@pytest.mark.parametrize(
    "numbers",
    [
        (110, 0, 98, 1, 0, 1, 0, 1),
        (200, 1, 98, 1, 0, 1, 0, 1),
        (110, 1, 98, 1, 90, 1, 0, 1),
        (0, 1, 0, 1, 0, 1, 0, 1),
    ],
    ids=["no number", "wider than the picture", "beyond its side", "nothing"],
)
def test_a_crop_that_cannot_be_is_ignored(tmp_path: Path, numbers: tuple[int, ...]):
    path = write_video(tmp_path / "clip.mp4", pan(4))
    with_added(path, boxes, MP4, headed(b"clap", struct.pack(">IIIIiIiI", *numbers)))
    with open_video(path) as video:
        assert [frame.rgb(512).shape for frame in video.frames()] == [(120, 160, 3)] * 4


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@settings(max_examples=30)
@given(place=st.integers(0, 2_000), value=st.integers(0, 255))
def test_any_header_is_read_to_an_end(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, place: int, value: int
):
    folder = tmp_path_factory.getbasetemp() / f"crop_{suffix}"
    if not folder.exists():
        folder.mkdir()
        cropped_video(folder, suffix)
    data = bytearray((folder / f"clip.{suffix}").read_bytes())
    data[-place % len(data) if suffix == "mp4" else place] = value
    path = folder / f"changed.{suffix}"
    path.write_bytes(data)
    level = _elements if suffix == "mkv" else boxes
    with path.open("rb") as file:
        try:
            assert all(element.end <= len(data) for element in level(file, Element(0, 0, len(data))))
        except struct.error:
            assert suffix == "mkv"
