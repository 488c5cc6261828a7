"""Clips beside which a file holds thousands of other things: attachments, chapters, tags, tracks, edits."""

import struct
from collections.abc import Callable, Iterable

from kinescribe.schemas.outcomes import DropReason, RejectCode
from tests.odd_videos import Change, film

ATTACHMENTS, ATTACHED_FILE, FILE_NAME, MIME_TYPE, FILE_DATA, FILE_UID = (
    "1941a469", "61a7", "466e", "4660", "465c", "46ae",
)  # fmt: skip
CHAPTERS, EDITION, CHAPTER, CHAPTER_UID, CHAPTER_START = "1043a770", "45b9", "b6", "73c4", "91"
TAGS, TAG, TARGETS, SIMPLE_TAG, TAG_NAME, TAG_TEXT = "1254c367", "7373", "63c0", "67c8", "45a3", "4487"
SEGMENT, TRACKS, TRACK, TRACK_NUMBER, TRACK_UID, TRACK_TYPE, CODEC = (
    "18538067", "1654ae6b", "ae", "d7", "73c5", "83", "86",
)  # fmt: skip
INFO, TIMESTAMP_SCALE = "1549a966", "2ad7b1"


def element(id: str, *content: bytes) -> bytes:
    """An element of Matroska."""
    joined = b"".join(content)
    return bytes.fromhex(id) + (1 << 56 | len(joined)).to_bytes(8, "big") + joined


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def children(data: bytes) -> Iterable[tuple[str, bytes]]:
    place = 0
    while place < len(data):
        id_length = 9 - data[place].bit_length()
        start = place + id_length
        length = 9 - data[start].bit_length()
        size = int.from_bytes(data[start : start + length], "big") & ((1 << 7 * length) - 1)
        content = data[start + length : start + length + size]
        yield data[place:start].hex(), content
        place = start + length + size


def matroska(change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> Change:
    """Changes the elements of a Matroska file's segment; indexes, which would be wrong then, are left out."""

    def changed(data: bytes) -> bytes:
        start = data.index(bytes.fromhex(SEGMENT))
        ((_, segment),) = children(data[start:])
        parts = list(children(segment))
        head = {id: content for id, content in parts if id in (INFO, TRACKS)}
        rest = [element(id, content) for id, content in parts if id not in (*head, "114d9b74", "1c53bb6b")]
        first = [element(id, content) for id, content in change(head).items()]
        return data[:start] + element(SEGMENT, *first, *rest)

    return changed


def attached(*files: tuple[str, str, bytes]) -> Change:
    """Attaches files: name, type, content."""
    parts = [
        element(
            ATTACHED_FILE,
            element(FILE_NAME, name.encode()),
            element(MIME_TYPE, kind.encode()),
            element(FILE_DATA, data),
            element(FILE_UID, number(uid)),
        )
        for uid, (name, kind, data) in enumerate(files, 1)
    ]
    return matroska(lambda head: {**head, ATTACHMENTS: b"".join(parts)})


def chapters(uids: Iterable[int]) -> Change:
    parts = [
        element(CHAPTER, element(CHAPTER_UID, number(uid)), element(CHAPTER_START, number(uid)))
        for uid in uids
    ]
    return matroska(lambda head: {**head, CHAPTERS: element(EDITION, *parts)})


def tags(num: int) -> Change:
    parts = [
        element(
            TAG,
            element(TARGETS),
            element(SIMPLE_TAG, element(TAG_NAME, f"K{index}".encode()), element(TAG_TEXT, b"v")),
        )
        for index in range(num)
    ]
    return matroska(lambda head: {**head, TAGS: b"".join(parts)})


def tracks(num: int, kind: int, codec: str) -> Change:
    """Adds tracks without content."""
    parts = [
        element(
            TRACK,
            element(TRACK_NUMBER, number(index)),
            element(TRACK_UID, number(index)),
            element(TRACK_TYPE, bytes([kind])),
            element(CODEC, codec.encode()),
        )
        for index in range(2, num)
    ]
    return matroska(lambda head: {**head, TRACKS: head[TRACKS] + b"".join(parts)})


def scale(nanoseconds: int) -> Change:
    """Has a tick last so long."""
    return matroska(lambda head: {**head, INFO: element(TIMESTAMP_SCALE, number(nanoseconds))})


def edits(*entries: tuple[int, int, int], repeated: int = 1) -> Change:
    """Replaces the edit list of an MP4 file; an entry is length, begin and rate."""
    content = b"\1\0\0\0" + (len(entries) * repeated).to_bytes(4, "big")
    content += b"".join(struct.pack(">QqI", *entry) for entry in entries) * repeated

    def boxes(data: bytes) -> bytes:
        changed = b""
        while data:
            size, kind = int.from_bytes(data[:4], "big"), data[4:8]
            inner, data = data[8:size], data[size:]
            if kind in (b"moov", b"trak", b"edts"):
                inner = boxes(inner)
            elif kind == b"elst":
                inner = content
            changed += (8 + len(inner)).to_bytes(4, "big") + kind + inner
        return changed

    return boxes


unreadable, cuts = RejectCode.UNREADABLE, DropReason.SHOT_CUT
CROWDED = (
    film("attachments.mkv", change=attached(("font.ttf", "font/ttf", b"A" * 9_000_000))),
    film("many attachments.mkv", change=attached(*[("a.ttf", "font/ttf", b"A")] * 20_000)),
    film("chapters.mkv", change=chapters(range(1, 100_001))),
    film("chapters backwards.mkv", change=chapters(range(100_000, 0, -1))),
    film("tags.mkv", change=tags(1000)),
    film("sounds.mkv", change=tracks(20_000, 2, "A_AAC")),
    film("subtitles.mkv", change=tracks(20_000, 17, "S_TEXT/UTF8")),
    film("pictures.mkv", end=unreadable, change=tracks(20_000, 1, "V_MPEG4/ISO/AVC")),
    film("ticks of a nanosecond.mkv", change=scale(1), time_of=None),
    film("ticks of centuries.mkv", end=unreadable, change=scale(2**64 - 1)),
    film("edits.mp4", change=edits((1, 0, 1 << 16), repeated=1000), end=unreadable),
    film("repeated edits.mp4", end=cuts, change=edits((1600, 0, 1 << 16), repeated=50)),
    film("a huge edit.mp4", end=unreadable, change=edits((2**63, 2**62, 1 << 16))),
    film("a negative edit.mp4", end=unreadable, change=edits((1600, -(2**63), 1 << 16))),
)
"""Small files that state very much."""
