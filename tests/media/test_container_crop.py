import io
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinescribe.media.container_crop import Element, _elements, boxes, container_crop
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


def left_crop(path: Path, container: str, **stream: int) -> int:
    """What is taken off the left of a stream of 160 x 120 pixels with this index or id."""
    fake: Any = SimpleNamespace(width=160, height=120, **stream)
    return container_crop(path, container, fake).left


@pytest.mark.parametrize("unknown_size", [b"", b"\xff", b"\x01" + b"\xff" * 7])
def test_the_crop_is_that_of_the_streams_own_track_in_matroska(tmp_path: Path, unknown_size: bytes):
    tracks = [headed(0xAE, headed(0xE0, headed(0x54CC, bytes([left])))) for left in (0, 20)]
    content = headed(0x1654AE6B, b"".join(tracks))
    path = tmp_path / "clip.mkv"
    path.write_bytes(
        b"\x18\x53\x80\x67" + unknown_size + content if unknown_size else headed(0x18538067, content)
    )
    assert [left_crop(path, "matroska,webm", index=index) for index in range(3)] == [0, 20, 0]


@pytest.mark.parametrize("data", [b"", b"\x18\x53", bytes(20)], ids=["empty", "truncated", "zeros"])
@pytest.mark.parametrize("container", ["matroska,webm", "mov,mp4"])
def test_a_file_without_elements_has_no_crop(tmp_path: Path, container: str, data: bytes):
    (tmp_path / "clip").write_bytes(data)
    assert left_crop(tmp_path / "clip", container, index=0, id=1) == 0


def track(track_id: int, left: int, version: int) -> bytes:
    header = headed(b"tkhd", bytes([version, *bytes(11 + 8 * version)]) + struct.pack(">I", track_id))
    numbers = (160 - left, 1, 120, 1, left, 2, 0, 1)
    entry = headed(b"avc1", bytes(78) + headed(b"clap", struct.pack(">IIIIiIiI", *numbers)))
    content = headed(b"stsd", bytes(8) + entry)
    for name in (b"stbl", b"minf", b"mdia"):
        content = headed(name, content)
    return headed(b"trak", header + content)


def test_the_crop_is_that_of_the_streams_own_track_in_mp4(tmp_path: Path):
    path, last = tmp_path / "clip.mp4", (1 << 32) - 1
    path.write_bytes(headed(b"moov", track(1, 10, version=0) + track(last, 20, version=1)))
    found = [left_crop(path, "mov,mp4", id=track_id) for track_id in (1, last, 2)]
    assert found == [10, 20, 0]


@pytest.mark.parametrize(
    ("data", "spans"),
    [
        (headed(b"some", b"x") + headed(b"none", b""), [(8, 9), (17, 17)]),
        (struct.pack(">I4sQ", 1, b"long", 20) + b"data" + headed(b"next", b""), [(16, 20), (28, 28)]),
        (struct.pack(">I4s", 0, b"last") + b"data", [(8, 12)]),
        (headed(b"good", b"") + struct.pack(">I4s", 4, b"less"), [(8, 8)]),
        (headed(b"good", b"") + struct.pack(">I4s", 9, b"more"), [(8, 8)]),
    ],
    ids=["usual", "long", "to the end", "too short", "too long"],
)
def test_a_box_ends_where_its_header_says(data: bytes, spans: list[tuple[int, int]]):
    found = boxes(io.BytesIO(data), Element(0, 0, len(data)))
    assert [(box.start, box.end) for box in found] == spans


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
