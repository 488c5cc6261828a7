import struct
from pathlib import Path

import pytest

from kinescribe.media.edit_list import has_several_edits
from tests.videos import pan, write_video


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def edits(*starts: int, version: int = 0, num: int | None = None) -> bytes:
    """An edit list whose edits begin at these times; -1 is an empty one."""
    entry = struct.Struct(">QqI" if version else ">IiI")
    header = struct.pack(">BxxxI", version, len(starts) if num is None else num)
    return header + b"".join(entry.pack(1000, start, 1 << 16) for start in starts)


def movie(handler: bytes, edit_list: bytes) -> bytes:
    """An MP4 of headers alone, whose track has an edit list."""
    track = box(b"mdia", box(b"hdlr", bytes(8) + handler)) + box(b"edts", box(b"elst", edit_list))
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
    path.write_bytes(movie(handler, edits(*starts, version=version)))
    assert has_several_edits(path) == several


def test_a_usual_file_has_one_part_and_a_truncated_one_none(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(10))
    assert not has_several_edits(path)
    path.write_bytes(movie(b"vide", edits(0, 3000))[:-20])
    assert not has_several_edits(path)


@pytest.mark.parametrize(
    ("edit_list", "several"), [(edits(0, 3000, num=9) + b"half", True), (b"", False)], ids=["half", "empty"]
)
def test_an_edit_list_that_is_too_short_is_read_as_far_as_it_goes(
    tmp_path: Path, edit_list: bytes, several: bool
):
    path = tmp_path / "clip.mp4"
    path.write_bytes(movie(b"vide", edit_list))
    assert has_several_edits(path) == several
