"""Opens local video files and yields their frames in presentation order, with PyAV.

Knows nothing of key frames, limits or clips. Call it on untrusted files only inside
`kinescribe.media.sandbox`, because a decoder may crash, spin or eat memory.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias, cast

import av
import av.error
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from kinescribe.media.clocks import ContinuousClock, DecodingClock, PacketCount, PresentationClock
from kinescribe.media.container_crop import container_crop
from kinescribe.media.decoded_frame import Crop, DecodedFrame, shown_size
from kinescribe.schemas.outcomes import RejectCode, Rejected

CONTAINERS = (
    "mov,matroska,avi,flv,mpegts,mpeg,mpegvideo,m4v,h263,h264,hevc,vvc,av1,obu,ivf,gif,apng,ogg,asf,nut,"
    "mjpeg,rm,mxf,dv,yuv4mpegpipe,wav,mp3,aac,flac"
)
"""Formats that contain their own data. Playlists (HLS, DASH, concat, SDP …) name other files and hosts."""
VideoPacket: TypeAlias = "Packet[VideoStream]"
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
DECODER_ERRORS = (av.error.FFmpegError, MemoryError)
PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<MPD", b"v=0\r", b"v=0\n", b"[playlist]")
"""How playlists begin. FFmpeg recognises them by their content, whatever the file's name."""
COUNTABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"), ("h264", "hevc")
"""Containers with a presentation time for each packet, and codecs in which each packet is one frame."""
DECODING_TIMES = ("avi", "asf")
"""Containers that have only the decoding time of each packet."""
OTHER_CLOCKS = ("mpegts", "mpeg")
"""Containers whose clock restarts, jumps or wraps, so that a time can't be sought in them."""
STRICT = ("hevc",)
"""Codecs whose decoder reports damage only if it is told to stop there. H.264's stops at good files too."""
LOGGED = ("ogg",)
"""Containers whose reader, and whose Theora decoder, report damage to the log alone."""
STILL_CODECS = ("mjpeg", "png", "bmp", "tiff", "webp")
NUM_AHEAD = 2
"""Parsers mark the packet before the one that is damaged, so a key frame may be the second one after it."""
MAX_ENTRY_BYTES = 64 << 20
"""The most that is read ahead to find the last key frame before a window."""
SEEK_EARLIER_S = (0.0, 2.0, 10.0)
"""How long before a window's start an entry point is sought, one attempt after another."""
LAST_PLACE = 2.0**63 - 1024
"""The latest time that FFmpeg can seek to, in its own unit: the largest float below 2**63."""
NUM_BEFORE_SKIPPING = 16
"""The first frames are all decoded, because a short clip has none to spare."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file states before anything is decoded."""

    width: int
    height: int
    duration_s: float | None


class Video:
    """An open video file."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        crop: Crop,
        logs: Sequence[object] = (),
    ) -> None:
        """`logs` grows with each complaint of the decoder."""
        self._container = container
        self._stream = stream
        self._crop = crop
        self._logs = logs
        # Some streams' clocks start at hours; players and editors count from the first frame.
        self._start_s = (container.start_time or 0) / av.time_base
        self._tick_s = stream.time_base or Fraction(1, av.time_base)
        self._one_clock = ContinuousClock(self._tick_s)
        self._has_one_clock = container.format.name not in OTHER_CLOCKS
        self.num_decoded = 0
        self.goes_on = False
        """Whether `frames` has stopped at a frame after the window."""
        self._count = PacketCount()
        self._size: tuple[int, int] | None = None

    @property
    def header(self) -> Header:
        """The coded size of the picture, and the duration if the file states it reliably."""
        stated = self._container.duration if self._has_one_clock else None
        return Header(self._stream.width, self._stream.height, stated / av.time_base if stated else None)

    @property
    def num_clock_jumps(self) -> int:
        """How often the clock has restarted or jumped so far."""
        return self._one_clock.num_jumps

    def count_duration(self) -> float | None:
        """The duration in seconds, read from all packets without decoding them; None if they have no times.

        Raises Rejected.
        """
        last = -math.inf
        try:
            for packet in self._packets():
                ticks = packet.dts if packet.pts is None else packet.pts
                last = max(last, -math.inf if ticks is None else ticks + (packet.duration or 0))
        except DECODER_ERRORS as error:
            raise _rejected(error) from error
        return None if last == -math.inf else self._time_s(int(last))

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
                    self.goes_on = True
                    return
                first = number if first is None else first
                index = max(index + 1, number - first if counts else 0)
                skips = skips and time_s - last_s <= max_gap_s
                self._skip(skips and index >= NUM_BEFORE_SKIPPING)
                if self._size is None:
                    aspect = float(self._stream.sample_aspect_ratio or 1)
                    self._size = shown_size(picture, aspect, self._crop)
                yield DecodedFrame(index, time_s, picture, self._size, self._crop)
                last_s = time_s
        except DECODER_ERRORS as error:
            raise _rejected(error, f" after {self.num_decoded} frames") from error

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

    def _clock(self) -> PresentationClock | DecodingClock:
        has_decoding_times = self._container.format.name in DECODING_TIMES
        return DecodingClock() if has_decoding_times else PresentationClock()

    def _time_s(self, ticks: int) -> float:
        """Seconds after the file's start, rounded to the precision of timestamps, and never -0.0."""
        return round(ticks * self._tick_s.numerator / self._tick_s.denominator - self._start_s, 9) + 0.0

    def _pictures(self, start_s: float) -> Iterator[VideoFrame]:
        """Pictures from an entry point before `start_s`, or from the beginning if none is found."""
        if start_s > 0 and not self._has_one_clock:
            yield from self._decoded(self._entered(start_s))
            return
        for earlier_s in SEEK_EARLIER_S:
            first, rest = self._seek(start_s - earlier_s, start_s)
            if first is not None:
                yield first
                yield from rest
                return
        if start_s > 0:
            self._container.seek(0)
        yield from self._decoded(self._packets())

    def _packets(self) -> Iterator[VideoPacket]:
        """All packets from here on, on one clock."""
        for packet in self._container.demux(self._stream):
            if not self._has_one_clock:
                self._one_clock.correct(packet)
            yield packet

    def _entered(self, start_s: float) -> Iterator[VideoPacket]:
        """The packets from the last key frame before `start_s` on."""
        packets = self._packets()
        held: list[VideoPacket] = []
        held_bytes = 0
        for packet in packets:
            ticks = packet.dts if packet.pts is None else packet.pts
            time_s = None if ticks is None else self._time_s(ticks)
            if packet.is_keyframe and time_s is not None and time_s <= start_s:
                held.clear()
                held_bytes = 0
            held.append(packet)
            held_bytes += packet.size
            is_late = packet.dts is not None and self._time_s(packet.dts) > start_s
            if is_late or held_bytes > MAX_ENTRY_BYTES:
                break
        yield from held
        yield from packets

    def _decoded(self, packets: Iterator[VideoPacket]) -> Iterator[VideoFrame]:
        self._count = PacketCount()
        for packet, *following in _with_next(packets):
            if packet.pts is not None and not packet.is_discard:
                self._count.read(packet.pts)
            # Where transport streams were joined, packets seem to be lost right before the next's key frame.
            is_damaged = packet.is_corrupt and not any(one.is_keyframe for one in following)
            for picture in packet.decode():
                # Missing bytes and concealed errors don't raise by themselves.
                if is_damaged or picture.is_corrupt or self._logs:
                    raise av.error.InvalidDataError(0, "damaged data")
                yield picture
        if self._logs:  # pages that were lost at the end
            raise av.error.InvalidDataError(0, "damaged data")

    def _seek(self, entry_s: float, start_s: float) -> tuple[VideoFrame | None, Iterator[VideoFrame]]:
        """The first picture from an entry point before `entry_s`, or None if it is too late, and the rest.

        Seeking goes by decoding time, so the first picture may have a presentation time after `start_s`.
        """
        rest = self._decoded(self._packets())
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


@contextlib.contextmanager
def open_video(path: Path) -> Generator[Video]:
    """Open a local file for decoding on one thread.

    Raises Rejected: forbidden for a playlist, no_video without a video stream, else unreadable.
    """
    av.logging.set_level(None)
    try:
        if _is_playlist(path):
            raise Rejected(RejectCode.FORBIDDEN, "a playlist, which refers to other files")
        container = _open(path)
    except av.error.ArgumentError as error:
        raise Rejected(RejectCode.UNREADABLE, _why_not_opened(path)) from error
    except (*DECODER_ERRORS, OSError) as error:
        raise _rejected(error) from error
    with container, contextlib.ExitStack() as while_open:
        stream = _film(container)
        if stream is None:
            raise Rejected(RejectCode.NO_VIDEO, f"a {container.format.name} file without a video stream")
        decoder = stream.codec_context
        if not decoder:
            raise Rejected(RejectCode.UNREADABLE, "there is no decoder for its codec")
        # Frames must not depend on the number of cores, and each core decodes another clip.
        decoder.thread_count = 1
        if decoder.name in STRICT:
            decoder.options = {"err_detect": "explode"}
        crop = container_crop(path, container.format.name, stream)
        logs: Sequence[object] = ()
        if container.format.name in LOGGED:
            av.logging.set_level(av.logging.ERROR)
            av.logging.set_skip_repeated(False)
            while_open.callback(av.logging.set_level, None)
            capture = cast("contextlib.AbstractContextManager[Sequence[object]]", av.logging.Capture())
            logs = while_open.enter_context(capture)
        yield Video(container, stream, crop, logs)


def _with_next(packets: Iterator[VideoPacket]) -> Iterator[Sequence[VideoPacket]]:
    """Each packet with the next `NUM_AHEAD`, of which there are fewer at the end."""
    window = deque(itertools.islice(packets, NUM_AHEAD))
    for packet in packets:
        window.append(packet)
        yield tuple(window)
        window.popleft()
    while window:
        yield tuple(window)
        window.popleft()


def _open(path: Path) -> InputContainer:
    return av.open(f"file:{path.absolute()}", options=OPTIONS, metadata_errors="replace")


def _why_not_opened(path: Path) -> str:
    """Why FFmpeg calls the file an invalid argument: its container is none of `CONTAINERS`."""
    av.logging.set_level(av.logging.DEBUG)
    with av.logging.Capture() as logs, contextlib.suppress(*DECODER_ERRORS, OSError):
        _open(path).close()
    av.logging.set_level(None)
    names = (re.match(r"Format (\S+) probed", message) for _, _, message in logs)
    name = next((found[1] for found in names if found), None)
    if name is None:
        return "Invalid argument"
    return (
        f"its container, {name}, is not opened: only usual ones that hold all of their data are, as others "
        "may name further files; convert it, for example by ffmpeg -i FILE FILE.mkv"
    )


def _film(container: InputContainer) -> VideoStream | None:
    """FFmpeg's choice of the video streams, unless that is a cover and another isn't."""
    best = container.streams.best("video")
    films = [stream for stream in container.streams.video if not _is_still(stream)]
    if isinstance(best, VideoStream) and (best in films or not films):
        return None if best.disposition & Disposition.attached_pic else best
    return max(films, key=lambda stream: stream.width * stream.height, default=None)


def _is_still(stream: VideoStream) -> bool:
    is_image = bool(stream.codec_context) and stream.codec_context.name in STILL_CODECS
    return (
        bool(stream.disposition & Disposition.attached_pic)
        or stream.frames == 1
        or (is_image and not stream.frames)
    )


def _is_playlist(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(PLAYLISTS) or (start.startswith(b"<?xml") and b"<MPD" in start)


def _rejected(error: Exception, where: str = "") -> Rejected:
    is_memory = isinstance(error, MemoryError)
    code = RejectCode.OUT_OF_MEMORY if is_memory else RejectCode.UNREADABLE
    reason = error.strerror if isinstance(error, av.error.FFmpegError | OSError) else None
    return Rejected(code, f"{reason or type(error).__name__}{where}")
