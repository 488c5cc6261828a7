"""Whether an MP4 or MOV file has an edit list of several parts, which not all decoders follow.

Reads the headers of boxes, and seeks past all else. Call it on untrusted files only inside
`kinescribe.media.sandbox`.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from kinescribe.media.container_crop import Element, boxes, find

COUNT = struct.Struct(">BxxxI")
"""How `elst` begins: its version, and the number of edits."""
ENTRIES = struct.Struct(">Ii4x"), struct.Struct(">Qq4x")
"""An edit of version 0 and 1: its duration, and the time in the track at which it begins."""
EMPTY = -1
MAX_EDITS = 1000
HANDLER_OFFSET = 8


def has_several_edits(path: Path) -> bool:
    """Whether a video track is made of several parts; the one edit of most files only sets its start."""
    with path.open("rb") as file, suppress(struct.error):
        whole = Element(0, 0, path.stat().st_size)
        for movie in find(boxes(file, whole), b"moov"):
            for track in find(boxes(file, movie), b"trak"):
                if _is_video(file, track) and _num_parts(file, track) > 1:
                    return True
    return False


def _is_video(file: BinaryIO, track: Element) -> bool:
    for media in find(boxes(file, track), b"mdia"):
        for handler in find(boxes(file, media), b"hdlr"):
            file.seek(handler.start + HANDLER_OFFSET)
            return file.read(4) == b"vide"
    return False


def _num_parts(file: BinaryIO, track: Element) -> int:
    for edits in find(boxes(file, track), b"edts"):
        for edit_list in find(boxes(file, edits), b"elst"):
            file.seek(edit_list.start)
            version, count = COUNT.unpack(file.read(COUNT.size))
            entry = ENTRIES[version == 1]
            data = file.read(entry.size * min(count, MAX_EDITS))
            data = data[: len(data) - len(data) % entry.size]
            return sum(start != EMPTY for _, start in entry.iter_unpack(data))
    return 0
