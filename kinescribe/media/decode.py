"""Opens local video files and yields their frames in presentation order; the only importer of PyAV.

Knows nothing of key frames, limits or clips. Call it on untrusted files only inside
`kinescribe.media.sandbox`, because a decoder may crash, spin or eat memory.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
import av.logging
import cv2
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinescribe.media.tone_mapping import HLG, PQ, tone_mapped
from kinescribe.schemas.outcomes import RejectCode, Rejected

CONTAINERS = (
    "mov,matroska,avi,flv,mpegts,mpeg,mpegvideo,m4v,h263,h264,hevc,vvc,av1,obu,ivf,gif,apng,ogg,asf,nut,"
    "mjpeg,rm,mxf,dv,yuv4mpegpipe,wav,mp3,aac,flac"
)
"""Formats that contain their own data. Playlists (HLS, DASH, concat, SDP …) name other files and hosts."""
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
DECODER_ERRORS = (av.error.FFmpegError, MemoryError)
PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<MPD", b"v=0\r", b"v=0\n", b"[playlist]")
"""How playlists begin. FFmpeg recognises them by their content, whatever the file's name."""
COUNTABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"), ("h264", "hevc")
"""Containers with a presentation time for each packet, and codecs in which each packet is one frame."""
DECODING_TIMES = ("avi", "asf")
"""Containers that have only the decoding time of each packet."""
SEEK_EARLIER_S = (0.0, 2.0, 10.0)
"""How long before a window's start an entry point is sought, one attempt after another."""
LAST_PLACE = 2.0**63 - 1024
"""The latest time that FFmpeg can seek to, in its own unit: the largest float below 2**63."""
HD_SIZE = 1280, 576
"""Of the width, and above that of the height, players take the colours of an untagged picture as BT.709."""
MAX_PIXEL_ASPECT = 4
"""Of a pixel's sides; a file that states more is wrong."""
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""How a picture is scaled; without it, grey 128 becomes 126."""
UNTAGGED = 2
NUM_BEFORE_SKIPPING = 16
"""The first frames are all decoded, because a short clip has none to spare."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file states before anything is decoded."""

    width: int
    height: int
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A decoded frame: its number, its time in seconds after the file's start, and its picture."""

    index: int
    time_s: float
    picture: VideoFrame
    size: tuple[int, int] | None = None
    """The width and height to show it with, before it is turned upright; None for those of the picture."""

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

    def luma(self, width: int, height: int) -> NDArray[np.uint8]:
        """The brightness scaled to (height, width), not rotated upright."""
        layout = _luma_layout(self.picture.format.name)
        image = _luma(
            self.picture if layout.has_plane else self.picture.reformat(format="gray", threads=1),
            layout.depth,
        )
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
        scale = min(1.0, max_side / max(self.width, self.height))
        width, height = (max(1, round(length * scale)) for length in (self.width, self.height))
        shrinks = scale < 1 and width <= self.picture.width and height <= self.picture.height
        is_scaled = (width, height) != (self.picture.width, self.picture.height)
        method = Interpolation.AREA if shrinks else Interpolation.BICUBIC
        is_hdr = self.picture.color_trc in (PQ, HLG)
        picture = self.picture.reformat(
            format="rgb48le" if is_hdr else "rgb24",
            width=width,
            height=height,
            src_colorspace=_colorspace(self.picture),
            interpolation=method | EXACT if is_scaled else method,
            threads=1,
        )
        image: NDArray[Any] = picture.to_ndarray()
        if is_hdr:
            image = tone_mapped(image, self.picture.color_trc)
        assert image.shape[2:] == (3,), image.shape  # decoders have returned others for narrow frames
        return np.ascontiguousarray(_upright(image, self.picture))


def _colorspace(picture: VideoFrame) -> Colorspace | None:
    """The matrix of an untagged picture as players guess it, None if it needs no guess."""
    if picture.colorspace == UNTAGGED and picture.color_trc in (PQ, HLG):
        return Colorspace.BT2020
    is_high = picture.width >= HD_SIZE[0] or picture.height > HD_SIZE[1]
    return Colorspace.ITU709 if is_high and picture.colorspace == UNTAGGED else None


def _upright(image: NDArray[np.uint8], picture: VideoFrame) -> NDArray[np.uint8]:
    """The image turned and mirrored as the picture's display matrix says, by right angles."""
    matrix = cast("Any", picture.side_data).get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return image
    # The shown x is a·x + c·y, and the shown y is b·x + d·y.
    a, b, _, c, d = np.frombuffer(matrix, np.int32, 5).astype(np.int64).tolist()
    if abs(a) + abs(d) < abs(b) + abs(c):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


class Video:
    """An open video file."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._stream = stream
        # Some streams' clocks start at hours; players and editors count from the first frame.
        self._start_s = (container.start_time or 0) / av.time_base
        tick_s = stream.time_base or Fraction(1, av.time_base)
        self._num_tick_s, self._den_tick_s = tick_s.numerator, tick_s.denominator
        self.num_decoded = 0
        self._count = _Count()
        self._size: tuple[int, int] | None = None

    @property
    def header(self) -> Header:
        """The coded size of the picture, and the duration if the file states it."""
        duration = self._container.duration
        return Header(self._stream.width, self._stream.height, duration / av.time_base if duration else None)

    def frames(
        self, start_s: float | None = None, end_s: float | None = None, max_gap_s: float = 0.0
    ) -> Iterator[DecodedFrame]:
        """The frames with start_s <= time < end_s in presentation order, numbered from 0.

        With a `max_gap_s`, frames that no other frame refers to are skipped, but still numbered. Once that
        leaves a gap larger than `max_gap_s`, all further frames are decoded. Raises Rejected if the decoder
        meets an error or conceals one, because what follows may not be the video.
        """
        index, last_s, first = -1, math.inf, None
        counts = skips = max_gap_s > 0 and self._is_countable
        try:
            for time_s, number, picture in self._timed(start_s or 0.0):
                if (index >= 0 and time_s <= last_s) or time_s < (start_s or -math.inf):
                    continue
                if end_s is not None and time_s >= end_s:
                    return
                first = number if first is None else first
                index = max(index + 1, number - first if counts else 0)
                skips = skips and time_s - last_s <= max_gap_s
                self._skip(skips and index >= NUM_BEFORE_SKIPPING)
                self._size = self._size or self._shown_size(picture)
                yield DecodedFrame(index, time_s, picture, self._size)
                last_s = time_s
        except DECODER_ERRORS as error:
            raise _rejected(error, f" after {self.num_decoded} frames") from error

    def _shown_size(self, picture: VideoFrame) -> tuple[int, int]:
        """The picture's width and height in square pixels, as players enlarge it."""
        aspect = float(self._stream.sample_aspect_ratio or 1)
        width, height = picture.width, picture.height
        if not 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT:
            return width, height
        return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))

    @property
    def _is_countable(self) -> bool:
        containers, codecs = COUNTABLE
        return self._container.format.name in containers and self._stream.codec_context.name in codecs

    def _skip(self, skips: bool) -> None:
        self._stream.codec_context.skip_frame = "NONREF" if skips else "DEFAULT"

    def _timed(self, start_s: float) -> Iterator[tuple[float, int, VideoFrame]]:
        """Each picture with its time, and its number among the packets that were read."""
        clock = self._clock()
        for picture in self._pictures(start_s):
            self.num_decoded += 1
            ticks = clock.presented(picture)
            if ticks is not None:
                yield self._time_s(ticks), self._count.before(ticks), picture

    def _clock(self) -> _Clock | _DecodingClock:
        return _DecodingClock() if self._container.format.name in DECODING_TIMES else _Clock()

    def _time_s(self, ticks: int) -> float:
        """Seconds after the file's start, rounded to the precision of timestamps, and never -0.0."""
        return round(ticks * self._num_tick_s / self._den_tick_s - self._start_s, 9) + 0.0

    def _pictures(self, start_s: float) -> Iterator[VideoFrame]:
        """Pictures from an entry point before `start_s`, or from the beginning if none is found."""
        for earlier_s in SEEK_EARLIER_S:
            first, rest = self._seek(start_s - earlier_s, start_s)
            if first is not None:
                yield first
                yield from rest
                return
        if start_s > 0:
            self._container.seek(0)
        yield from self._decoded()

    def _decoded(self) -> Iterator[VideoFrame]:
        self._count = _Count()
        for packet in self._container.demux(self._stream):
            if packet.pts is not None and not packet.is_discard:
                self._count.read(packet.pts)
            for picture in packet.decode():
                # Missing bytes and concealed errors don't raise by themselves.
                if packet.is_corrupt or picture.is_corrupt:
                    raise av.error.InvalidDataError(0, "damaged data")
                yield picture

    def _seek(self, entry_s: float, start_s: float) -> tuple[VideoFrame | None, Iterator[VideoFrame]]:
        """The first picture from an entry point before `entry_s`, or None if it is too late, and the rest.

        Seeking goes by decoding time, so the first picture may have a presentation time after `start_s`.
        """
        rest = self._decoded()
        place = (entry_s + self._start_s) * av.time_base
        if entry_s <= 0 or place > LAST_PLACE:
            return None, rest
        try:
            self._container.seek(round(place))
            first = next(rest, None)
        except av.error.FFmpegError:
            return None, rest
        ticks = first and self._clock().presented(first)
        if ticks is None or self._time_s(ticks) > start_s:
            return None, rest
        return first, rest


class _Count:
    """Counts the packets with an earlier presentation time than a decoded frame; all of them were read."""

    def __init__(self) -> None:
        self._pending: list[int] = []
        self._passed = 0

    def read(self, pts: int) -> None:
        heapq.heappush(self._pending, pts)

    def before(self, pts: int) -> int:
        while self._pending and self._pending[0] < pts:
            heapq.heappop(self._pending)
            self._passed += 1
        return self._passed


class _Clock:
    """Presentation times of frames in the order in which a decoder returns them.

    That is the presentation timestamp, unless presentation timestamps went backwards more often than
    decoding timestamps. libavcodec has it as `best_effort_timestamp`, which PyAV doesn't expose.
    """

    def __init__(self) -> None:
        self._last: list[float] = [-math.inf, -math.inf]
        self._faults = [0, 0]

    def presented(self, picture: VideoFrame) -> int | None:
        pts, dts = picture.pts, picture.dts
        for kind, ticks in enumerate((pts, dts)):
            if ticks is not None:
                self._faults[kind] += ticks <= self._last[kind]
                self._last[kind] = ticks
            elif self._last[kind] > -math.inf:
                self._faults[kind] += 1
        if pts is not None and (dts is None or self._faults[0] <= self._faults[1]):
            return pts
        return dts


class _DecodingClock:
    """The same for files that have only decoding times.

    The times that libavformat derives are wrong for H.264 with B-frames. A codec that delays frames returns
    one when it reads the packet of a frame as many places later; the last frames come after all packets.
    """

    def __init__(self) -> None:
        self._last = -1

    def presented(self, picture: VideoFrame) -> int:
        expected = self._last + max(picture.duration, 1)
        self._last = expected if picture.dts is None else max(picture.dts, self._last + 1)
        return self._last


@contextlib.contextmanager
def open_video(path: Path) -> Generator[Video]:
    """Open a local file for decoding on one thread.

    Raises Rejected: forbidden for a playlist, no_video without a video stream, else unreadable.
    """
    av.logging.set_level(None)
    try:
        if _is_playlist(path):
            raise Rejected(RejectCode.FORBIDDEN, "a playlist, which refers to other files")
        container = av.open(f"file:{path.absolute()}", options=OPTIONS, metadata_errors="replace")
    except (*DECODER_ERRORS, OSError) as error:
        raise _rejected(error) from error
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.disposition & Disposition.attached_pic:
            raise Rejected(RejectCode.NO_VIDEO, f"a {container.format.name} file without a video stream")
        assert isinstance(stream, VideoStream), stream
        if not stream.codec_context:
            raise Rejected(RejectCode.UNREADABLE, "there is no decoder for its codec")
        # Frames must not depend on the number of cores, and each core decodes another clip.
        stream.codec_context.thread_count = 1
        yield Video(container, stream)


def _is_playlist(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(PLAYLISTS) or (start.startswith(b"<?xml") and b"<MPD" in start)


def _rejected(error: Exception, where: str = "") -> Rejected:
    is_memory = isinstance(error, MemoryError)
    code = RejectCode.OUT_OF_MEMORY if is_memory else RejectCode.UNREADABLE
    reason = error.strerror if isinstance(error, av.error.FFmpegError | OSError) else None
    return Rejected(code, f"{reason or type(error).__name__}{where}")


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
