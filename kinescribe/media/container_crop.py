"""The crop that a container states for its picture: Matroska's PixelCrop, and `clap` of MP4 and MOV.

Decoders don't apply it, and PyAV doesn't show it. Reads element headers, and seeks past all else. Call it on
untrusted files only inside `kinescribe.media.sandbox`.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, NamedTuple

from av.video.stream import VideoStream

from kinescribe.media.decoded_frame import WHOLE, Crop

SEGMENT, TRACKS, TRACK, VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
PIXEL_CROP = {0x54CC: "left", 0x54BB: "top", 0x54DD: "right", 0x54AA: "bottom"}
"""Element ids of Matroska (RFC 9559)."""
TO_ENTRIES = (b"mdia", b"minf", b"stbl", b"stsd")
NUM_ELEMENTS = 10_000
"""Of one level; a file with more has its crop ignored."""
SAMPLE_ENTRY_BYTES, FULL_BOX_BYTES = 78, 8
"""What comes before the boxes of a visual sample entry, and before the entries of `stsd`."""
CLAP = struct.Struct(">IIIIiIiI")


class Element(NamedTuple):
    """An EBML element or MP4 box: its id, and the span of its content in the file."""

    name: int | bytes
    start: int
    end: int


def container_crop(path: Path, container: str, stream: VideoStream) -> Crop:
    """The pixels that the container takes off the stream's pictures; none if it says nothing usable.

    `container` is FFmpeg's name of the format.
    """
    width, height = stream.width, stream.height
    with path.open("rb") as file, suppress(struct.error, ZeroDivisionError, OverflowError):
        whole = Element(0, 0, path.stat().st_size)
        if container.startswith("matroska"):
            crop = _matroska(file, whole, stream.index)
        elif container.startswith("mov"):
            crop = _clean_aperture(file, whole, stream.id, width, height)
        else:
            crop = None
        if crop and min(crop) >= 0 and crop.left + crop.right < width and crop.top + crop.bottom < height:
            return crop
    return WHOLE


def _matroska(file: BinaryIO, whole: Element, index: int) -> Crop | None:
    for segment in find(_elements(file, whole), SEGMENT):
        for tracks in find(_elements(file, segment), TRACKS):
            track = next(itertools.islice(find(_elements(file, tracks), TRACK), index, None), None)
            videos = find(_elements(file, track), VIDEO) if track else ()
            parts = (element for video in videos for element in _elements(file, video))
            return Crop(
                **{PIXEL_CROP[part.name]: _integer(file, part) for part in parts if part.name in PIXEL_CROP}
            )
    return None


def _elements(file: BinaryIO, parent: Element) -> Iterator[Element]:
    place = parent.start
    for _ in range(NUM_ELEMENTS):
        file.seek(place)
        name, name_bytes = _variable_integer(file, keeps_marker=True)
        size, size_bytes = _variable_integer(file, keeps_marker=False)
        start = place + name_bytes + size_bytes
        is_unknown = size == (1 << 7 * size_bytes) - 1  # of a live stream
        end = parent.end if is_unknown else start + size
        if end > parent.end:
            return
        yield Element(name, start, end)
        if (place := end) >= parent.end:
            return


def _variable_integer(file: BinaryIO, *, keeps_marker: bool) -> tuple[int, int]:
    """An EBML integer and its length in bytes. Raises struct.error at the end of the file."""
    (first,) = struct.unpack("B", file.read(1))
    length = 9 - first.bit_length()
    rest = file.read(length - 1)
    if length > 8 or len(rest) < length - 1:
        raise struct.error("not an EBML integer")
    value = first if keeps_marker else first - (1 << (8 - length))
    return int.from_bytes(bytes([value]) + rest), length


def _integer(file: BinaryIO, element: Element) -> int:
    file.seek(element.start)
    return int.from_bytes(file.read(min(element.end - element.start, 8)))


def _clean_aperture(file: BinaryIO, whole: Element, track_id: int, width: int, height: int) -> Crop | None:
    for movie in find(boxes(file, whole), b"moov"):
        for track in find(boxes(file, movie), b"trak"):
            headers = find(boxes(file, track), b"tkhd")
            if not any(_track_id(file, header) == track_id for header in headers):
                continue
            for entry in _entries(file, track):
                content = entry._replace(start=entry.start + SAMPLE_ENTRY_BYTES)
                for clap in find(boxes(file, content), b"clap"):
                    file.seek(clap.start)
                    return _aperture(CLAP.unpack(file.read(CLAP.size)), width, height)
    return None


def _entries(file: BinaryIO, track: Element) -> Iterator[Element]:
    parents = [track]
    for name in TO_ENTRIES:
        parents = [box for parent in parents for box in find(boxes(file, parent), name)]
    for table in parents:
        yield from boxes(file, table._replace(start=table.start + FULL_BOX_BYTES))


def _track_id(file: BinaryIO, header: Element) -> int:
    file.seek(header.start)
    is_long = file.read(1) == b"\x01"  # its times have 64 bits
    file.seek(header.start + (20 if is_long else 12))
    (track_id,) = struct.unpack(">I", file.read(4))
    return int(track_id)


def _aperture(numbers: tuple[int, ...], width: int, height: int) -> Crop:
    wide, high, right, down = (Fraction(*numbers[place : place + 2]) for place in (0, 2, 4, 6))
    left, top = round((width - wide) / 2 + right), round((height - high) / 2 + down)
    return Crop(left, top, width - left - round(wide), height - top - round(high))


def boxes(file: BinaryIO, parent: Element) -> Iterator[Element]:
    """The MP4 boxes in another, or in a file. Raises struct.error where the file ends."""
    place = parent.start
    for _ in range(NUM_ELEMENTS):
        if place + 8 > parent.end:
            return
        file.seek(place)
        size, name = struct.unpack(">I4s", file.read(8))
        start = place + 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            start += 8
        end = place + size if size else parent.end
        if end < start or end > parent.end:
            return
        yield Element(name, start, end)
        place = end


def find(elements: Iterator[Element], name: int | bytes) -> Iterator[Element]:
    """Those of this name."""
    return (element for element in elements if element.name == name)
