"""A decoded frame as players show it: cropped, in square pixels, upright, deinterlaced, in BT.709 colours.

Knows nothing of files or decoders.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, cast

import av.filter
import cv2
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation
from numpy.typing import NDArray

from kinescribe.media.tone_mapping import HLG, PQ, tone_mapped
from kinescribe.schemas.outcomes import Note

HD_SIZE = 1280, 576
"""Of the width, and above that of the height, players take the colours of an untagged picture as BT.709."""
MAX_PIXEL_ASPECT = 4
"""Of a pixel's sides; a file that states more is wrong."""
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""How a picture is scaled; without it, grey 128 becomes 126."""
UNTAGGED = 2
ONE_TICK = Fraction(1, 1)


class Crop(NamedTuple):
    """Pixels that a container takes off each side of the coded picture."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


WHOLE = Crop()


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A decoded frame: its number, its time in seconds after the file's start, and its picture."""

    index: int
    time_s: float
    picture: VideoFrame
    size: tuple[int, int] | None = None
    """The width and height to show it with, before it is turned upright; None for those of the picture."""
    crop: Crop = WHOLE

    @property
    def width(self) -> int:
        """The width of the frame in square pixels, before it is turned upright."""
        return self.size[0] if self.size else self.picture.width

    @property
    def height(self) -> int:
        """The height of the frame in square pixels, before it is turned upright."""
        return self.size[1] if self.size else self.picture.height

    @property
    def size_bytes(self) -> int:
        """The memory that the picture takes."""
        return sum(plane.buffer_size for plane in self.picture.planes)

    @property
    def is_mirrored(self) -> bool:
        """Whether the display matrix mirrors the picture, besides rotating it."""
        a, b, c, d = _display_matrix(self.picture) or (1, 0, 0, 1)
        return a * d < b * c

    @property
    def notes(self) -> frozenset[Note]:
        """What is done to the picture besides scaling, for people who wonder about the stored one."""
        notes = {
            Note.TONE_MAPPED: self.picture.color_trc in (PQ, HLG),
            Note.DEINTERLACED: self.picture.interlaced_frame,
            Note.CROPPED: any(self.crop),
        }
        return frozenset(note for note, holds in notes.items() if holds)

    def luma(self, width: int, height: int) -> NDArray[np.uint8]:
        """The brightness scaled to (height, width), not rotated upright."""
        layout = _luma_layout(self.picture.format.name)
        picture = self.picture if layout.has_plane else self.picture.reformat(format="gray", threads=1)
        image = _cropped(_luma(picture, layout.depth), self.crop)
        while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
            # OpenCV has a SIMD version only for exact halving, which takes a tenth of the general reduction.
            half = (image.shape[1] // 2, image.shape[0] // 2)
            image = cv2.resize(image[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA)
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        # Deeper planes have their value in the low bits of 16.
        return (
            small.astype(np.uint8, copy=False)
            if layout.depth == 8
            else np.right_shift(small, layout.depth - 8).astype(np.uint8)
        )

    def rgb(self, max_side: int) -> NDArray[np.uint8]:
        """RGB (height, width, 3) as players show it, with at most `max_side` on the longer side."""
        picture = _deinterlaced(self.picture) if self.picture.interlaced_frame else self.picture
        scale = min(1.0, max_side / max(self.width, self.height))
        width, height = (max(1, round(length * scale)) for length in (self.width, self.height))
        size = (width, height)
        if any(self.crop):
            image = _rgb(picture, picture.width, picture.height)
            image = _cropped(image, self.crop)
            if image.shape[1::-1] != size:
                shrinks = scale < 1 and width <= image.shape[1] and height <= image.shape[0]
                method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
                image = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
        else:
            image = _rgb(picture, width, height)
        return np.ascontiguousarray(_upright(image, self.picture))


def shown_size(picture: VideoFrame, pixel_aspect: float, crop: Crop) -> tuple[int, int]:
    """The picture's width and height in square pixels, as players enlarge it."""
    width = max(1, picture.width - crop.left - crop.right)
    height = max(1, picture.height - crop.top - crop.bottom)
    if not 1 / MAX_PIXEL_ASPECT <= pixel_aspect <= MAX_PIXEL_ASPECT:
        return width, height
    if pixel_aspect > 1:
        return round(width * pixel_aspect), height
    return width, round(height / pixel_aspect)


def _rgb(picture: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    """RGB of 8 bits at another size, in BT.709 colours."""
    is_scaled = (width, height) != (picture.width, picture.height)
    shrinks = is_scaled and width <= picture.width and height <= picture.height
    method = Interpolation.AREA if shrinks else Interpolation.BICUBIC
    is_hdr = picture.color_trc in (PQ, HLG)
    converted = picture.reformat(
        format="rgb48le" if is_hdr else "rgb24",
        width=width,
        height=height,
        src_colorspace=_colorspace(picture),
        interpolation=method | EXACT if is_scaled else method,
        threads=1,
    )
    image: NDArray[Any] = converted.to_ndarray()
    if is_hdr:
        image = tone_mapped(image, picture.color_trc)
    assert image.shape[2:] == (3,), image.shape  # decoders have returned others for narrow frames
    return image


def _deinterlaced(picture: VideoFrame) -> VideoFrame:
    """The picture with one of its two fields, and between its lines what its edges lead to."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=ONE_TICK
    )
    bob, sink = graph.add("estdif", "mode=frame"), graph.add("buffersink")
    graph.link_nodes(source, bob, sink).configure()
    graph.push(picture)
    graph.push(None)
    return cast("VideoFrame", graph.pull())


def _cropped(image: NDArray[Any], crop: Crop) -> NDArray[Any]:
    height, width = image.shape[:2]
    return image[crop.top : height - crop.bottom, crop.left : width - crop.right]


def _colorspace(picture: VideoFrame) -> Colorspace | None:
    """The matrix of an untagged picture as players guess it, None if it needs no guess."""
    if picture.colorspace == UNTAGGED and picture.color_trc in (PQ, HLG):
        return Colorspace.BT2020
    is_high = picture.width >= HD_SIZE[0] or picture.height > HD_SIZE[1]
    return Colorspace.ITU709 if is_high and picture.colorspace == UNTAGGED else None


def _upright(image: NDArray[np.uint8], picture: VideoFrame) -> NDArray[np.uint8]:
    """The image turned and mirrored as the picture's display matrix says, by right angles."""
    matrix = _display_matrix(picture)
    if matrix is None:
        return image
    a, b, c, d = matrix
    if abs(a) + abs(d) < abs(b) + abs(c):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _display_matrix(picture: VideoFrame) -> tuple[int, int, int, int] | None:
    """a, b, c and d, by which the shown x is a·x + c·y, and the shown y is b·x + d·y."""
    matrix = cast("Any", picture.side_data).get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return None
    a, b, _, c, d = np.frombuffer(matrix, np.int32, 5).astype(np.int64).tolist()
    return a, b, c, d


@dataclass(frozen=True, slots=True)
class _LumaLayout:
    """Whether a pixel format has a plane of brightness, and its bits per pixel."""

    has_plane: bool
    depth: int


@functools.cache
def _luma_layout(pixel_format: str) -> _LumaLayout:
    kind = VideoFormat(pixel_format)
    depth = kind.components[0].bits
    if not kind.is_planar or kind.is_rgb or kind.is_big_endian or depth > 16:
        return _LumaLayout(has_plane=False, depth=8)
    return _LumaLayout(has_plane=True, depth=depth)


def _luma(picture: VideoFrame, depth: int) -> NDArray[np.integer]:
    """The first plane of a picture, not copied."""
    plane = cast("memoryview", picture.planes[0])  # its stub lacks the buffer protocol
    pixels = np.frombuffer(plane, np.uint8 if depth == 8 else np.uint16)
    return pixels.reshape(picture.height, -1)[:, : picture.width]
