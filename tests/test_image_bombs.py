"""Images that would take all memory or never end: each is one reject."""

import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from kinescribe.labeling.extract import SegmentExtractor
from kinescribe.schemas.clips import Clip, GivenTriplet
from kinescribe.schemas.config import DecodeLimits, StoredImage
from kinescribe.schemas.outcomes import RejectCode
from tests.videos import texture


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(side: int, *chunks: bytes) -> bytes:
    """A PNG file of a picture of side x side, without the picture."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join([header, *chunks, chunk(b"IEND", b"")])


BILLION = zlib.compress(bytes(1 << 30), 9)
BOMBS = {
    "large": (png(50_000, chunk(b"IDAT", BILLION)), RejectCode.TOO_LARGE),
    "text": (png(64, chunk(b"zTXt", b"k\0\0" + BILLION)), RejectCode.UNREADABLE),
    "profile": (png(64, chunk(b"iCCP", b"k\0\0" + BILLION)), RejectCode.UNREADABLE),
    "sparse": (None, RejectCode.OUT_OF_MEMORY),
    "device": ("/dev/zero", RejectCode.UNREADABLE),
    "environment": ("/proc/self/environ", RejectCode.UNREADABLE),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_an_image_that_is_a_bomb_is_one_reject(tmp_path: Path, bomb: str):
    content, code = BOMBS[bomb]
    path, good = tmp_path / "bomb.png", tmp_path / "good.png"
    Image.fromarray(texture(0)).save(good)
    if isinstance(content, str):
        path.symlink_to(content)
    else:
        path.write_bytes(content or b"")
    if content is None:
        os.truncate(path, 50 << 30)
    opened = SegmentExtractor(DecodeLimits(memory_bytes=1 << 29), StoredImage())
    try:
        outcome = opened.extract(GivenTriplet(Clip("x", str(good)), "paint", (str(good), str(path)))).outcome
        assert outcome
        assert outcome.reason == code
    finally:
        opened.close()
