import struct
from pathlib import Path

import pytest

from kinescribe.media.edit_list import has_several_edits
from tests.videos import pan, write_video


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def movie(handler: bytes, *starts: int, version: int = 0) -> bytes:
    """An MP4 of headers alone, whose track has edits that begin at these times; -1 is an empty one."""
    entry = struct.Struct(">QqI" if version else ">IiI")
    edits = b"".join(entry.pack(1000, start, 1 << 16) for start in starts)
    edit_list = box(b"elst", struct.pack(">BxxxI", version, len(starts)) + edits)
    track = box(b"mdia", box(b"hdlr", bytes(8) + handler)) + box(b"edts", edit_list)
    return box(b"ftyp", b"isom") + box(b"moov", box(b"trak", track))


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(
    ("handler", "starts", "several"),
    [
        (b"vide", (0,), False),
        (b"vide", (-1, 512), False),
        (b"vide", (0, 3000), True),
        (b"soun", (0, 3000), False),
        (b"vide", (), False),
    ],
)
def test_a_video_of_several_parts_is_found(
    tmp_path: Path, version: int, handler: bytes, starts: tuple[int, ...], several: bool
):
    path = tmp_path / "clip.mp4"
    path.write_bytes(movie(handler, *starts, version=version))
    assert has_several_edits(path) == several


def test_a_usual_file_has_one_part_and_a_truncated_one_none(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(10))
    assert not has_several_edits(path)
    path.write_bytes(movie(b"vide", 0, 3000)[:-20])
    assert not has_several_edits(path)
