"""Odd clips, made from scratch, each with its right outcome.

Every frame shows its number, so that a test can tell which frame it has and what its time must be.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from kinescribe.schemas.outcomes import DropReason, RejectCode
from tests.videos import Image, numbered, pan, still, texture, write_audio, write_video

KEPT = "kept"
FRAMES = pan(48)
QUICK: dict[str, dict[str, str]] = {
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "vp8": {"deadline": "realtime", "cpu-used": "8"},
    "libx264": {"bf": "3"},
    "mpeg4": {"bf": "2", "g": "12"},
    "mpeg2video": {"bf": "2"},
}
Change = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Odd:
    """A kind of clip: a function that makes it in a folder, and its outcome.

    `end` is `kept`, a drop's reason or a reject's code. Players rotate the frames anticlockwise by
    `quarter_turns`. An interlaced one has other pixels than its decoder's. `time_of` is the
    presentation time of a frame in seconds, by its number; None if only a
    decoder knows it. Containers with only decoding times show all frames up to `late_s` later.
    """

    name: str
    make: Callable[[Path], Path]
    end: str = KEPT
    time_of: Callable[[int], float] | None = lambda number: number / 30
    late_s: float = 0.0
    quarter_turns: int = 0

    @property
    def is_interlaced(self) -> bool:
        return self.name.startswith("interlaced")


def film(
    name: str,
    codec: str = "libx264",
    end: str = KEPT,
    *,
    frames: Sequence[Image] = FRAMES,
    change: Change = bytes,
    written_as: str = "",
    time_of: Callable[[int], float] | None = lambda number: number / 30,
    late_s: float = 0.0,
    **how: Any,
) -> Odd:
    """A clip that is encoded, as a file of the name `written_as`, and whose bytes are then changed."""
    how["options"] = QUICK.get(codec, {}) | how.get("options", {})

    def make(folder: Path) -> Path:
        path = write_video(folder / (written_as or name), frames, codec=codec, **how)
        path.write_bytes(change(path.read_bytes()))
        return path.rename(folder / name)

    return Odd(name, make, end, time_of, late_s, how.get("rotation", 0) // 90)


def sized(width: int, height: int, num_frames: int = 48) -> list[Image]:
    """A pan of that size."""
    wide = texture(0, max(64, width + 4 * num_frames), max(64, height))
    return [numbered(wide[:height, 2 * n : 2 * n + width], n) for n in range(num_frames)]


# A GIF counts in hundredths of a second.
coloured: dict[str, Any] = {"pixels": "rgb8", "time_of": lambda number: round(number * 100 / 30) / 100}
CONTAINERS = (
    film("h264.mp4"),
    film("fragmented.mp4", muxer={"movflags": "frag_keyframe+empty_moov"}, options={"g": "10"}),
    film("index first.mp4", muxer={"movflags": "faststart"}),
    film("h264.mkv"),
    film("streamed.mkv", muxer={"live": "1"}),
    film("h264.mov"),
    film("h264.ts"),
    film("bluray.m2ts"),
    film("h264.flv"),
    film("sorenson.flv", "flv"),
    film("h264.3gp"),
    film("xvid.avi", "mpeg4", late_s=0.1),
    film("h264.avi", late_s=0.1),
    film("mjpeg.avi", "mjpeg", pixels="yuvj420p"),
    film("raw.avi", "rawvideo", pixels="bgr24"),
    film("wmv2.wmv", "wmv2"),
    film("program.mpg", "mpeg2video"),
    film("mpeg1.mpg", "mpeg1video"),
    film("dvd.vob", "mpeg2video"),
    film("broadcast.mxf", "mpeg2video"),
    film("vp8.webm", "vp8", frames=sized(80, 64)),
    film("vp9.webm", "libvpx-vp9"),
    film("vp8.ogv", "vp8", frames=sized(80, 64)),
    film("av1.mp4", "libsvtav1"),
    film("av1.ivf", "libsvtav1"),
    film("av1.obu", "libsvtav1", time_of=lambda number: number / 25),  # no rate is stated
    film("hevc.mp4", "libx265"),
    film("hevc.mkv", "libx265"),
    film("prores.mov", "prores_ks", pixels="yuv422p10le"),
    film("ffv1.nut", "ffv1"),
    film("real.rm", "rv20"),
    film("plain.y4m", "rawvideo"),
    film("animated.gif", "gif", **coloured),
    film("animated.apng", "apng", pixels="rgb24"),
    film("raw.h264", end=RejectCode.UNREADABLE),
    film("raw.hevc", "libx265", RejectCode.UNREADABLE),
    film("raw.m2v", "mpeg2video", late_s=0.1),
    film("raw.m4v", "mpeg4", late_s=0.1),
    film("raw.mjpeg", "mjpeg", pixels="yuvj420p", time_of=lambda number: number / 25),
)
"""Containers and codecs."""


ten_bits = {"pixels": "yuv420p10le"}
PICTURES = (
    film("ten bits.mp4", **ten_bits),
    film("twelve bits.mkv", "libx265", frames=sized(80, 64), pixels="yuv444p12le"),
    film("grey of 16 bits.mkv", "ffv1", pixels="gray16le", frames=sized(80, 64)),
    film("grey.mkv", pixels="gray"),
    film("big-endian.nut", "rawvideo", pixels="yuv420p10be"),
    film("few colours.nut", "rawvideo", pixels="rgb565le"),
    film("rgb.mkv", "libx264rgb", pixels="rgb24"),
    film("alpha.mov", "qtrle", pixels="argb"),
    film("alpha prores.mov", "prores_ks", pixels="yuva444p10le"),
    film("alpha png.mov", "png", pixels="rgba"),
    film("alpha.webm", "libvpx-vp9", pixels="yuva420p"),
    film("interlaced.mkv", options={"flags": "+ildct+ilme", "x264-params": "tff=1"}),
    film("interlaced.mpg", "mpeg2video", options={"flags": "+ildct+ilme"}),
    film("odd size.mp4", frames=sized(161, 121), pixels="yuv444p"),
    film("cropped.mp4", frames=sized(170, 130)),
    film("narrow.mp4", frames=sized(64, 264)),
    film("flat.mp4", frames=sized(512, 24)),
    film(
        "one pixel.mp4",
        "libx264",
        DropReason.STATIC,
        frames=[np.full((1, 1, 3), 9, np.uint8)] * 48,
        pixels="yuv444p",
    ),
    *(film(f"turned {angle}.mp4", rotation=angle) for angle in (0, 90, 180, 270)),
)
"""Pixel formats, sizes and rotation."""


def block_time(number: int, time_ms: int) -> Change:
    """Has one frame of a Matroska file, 30 a second, shown at another time."""

    def change(data: bytes) -> bytes:
        said = b"\x81" + struct.pack(">h", round(number * 1000 / 30)) + b"\x00"
        assert data.count(said) == 1
        return data.replace(said, b"\x81" + struct.pack(">h", time_ms) + b"\x00")

    return change


def edit(media_time: int, rate: int = 1 << 16) -> Change:
    """Has the one edit of an MP4 file begin that many ticks later."""

    def change(data: bytes) -> bytes:
        start = data.index(b"elst") + 12
        length, begin, _ = struct.unpack_from(">Iii", data, start)
        return data[:start] + struct.pack(">Iii", length, begin + media_time, rate) + data[start + 12 :]

    return change


def box(kind: bytes, offset: int, value: bytes) -> Change:
    """Overwrites part of the first box of that kind."""

    def change(data: bytes) -> bytes:
        start = data.index(kind) + 4 + offset
        return data[:start] + value + data[start + len(value) :]

    return change


def mkv_duration(milliseconds: float) -> Change:
    """Has a Matroska file say that it is so long."""

    def change(data: bytes) -> bytes:
        start = data.index(b"\x44\x89\x88") + 3
        return data[:start] + struct.pack(">d", milliseconds) + data[start + 8 :]

    return change


jerky_s = [n / 30 + (n // 7) * 0.21 for n in range(48)]
in_order = {"options": {"bf": "0"}}
TIMES = (
    film("variable rate.mp4", times_s=jerky_s, time_of=jerky_s.__getitem__),
    film("variable rate.mkv", times_s=jerky_s, time_of=jerky_s.__getitem__),
    film("one frame a second.mp4", times_s=[float(n) for n in range(48)], time_of=float),
    film("a thousand a second.mkv", times_s=[n / 1000 for n in range(48)], time_of=lambda n: n / 1000),
    film("late start.mp4", times_s=[5 + n / 30 for n in range(48)]),
    film("late start.ts", muxer={"output_ts_offset": "3600"}),
    film("clock wraps.ts", muxer={"output_ts_offset": "95443.2"}),
    film(
        "negative.mp4",
        times_s=[n / 30 - 0.5 for n in range(48)],
        time_of=lambda n: n / 30 - 0.5,
        muxer={"avoid_negative_ts": "disabled"},
    ),
    film("negative offsets.mp4", muxer={"movflags": "negative_cts_offsets"}),
    film("edit skips.mp4", change=edit(10 * 3000), time_of=lambda n: (n - 10) / 30),
    film("edit at half speed.mp4", change=edit(0, 1 << 15)),
    film(
        "goes back.mkv", change=block_time(16, 100), time_of=lambda n: 0.1 if n == 16 else n / 30, **in_order
    ),
    film("stands still.mkv", change=block_time(17, 533), **in_order),
    film(
        "leaps.mkv",
        change=block_time(30, 30_000),
        time_of=lambda n: 30.0 if n == 30 else n / 30,
        **in_order,
    ),
    film("twice over.ts", change=lambda data: data + data, late_s=len(FRAMES) / 30),
    film("a hundred hours by its header.mkv", end=RejectCode.TOO_LARGE, change=mkv_duration(3.6e8)),
    film(
        "a frame after seven hours.mkv",
        end=RejectCode.TOO_LARGE,
        times_s=[*(n / 30 for n in range(47)), 25_200.0],
    ),
)
"""Timestamps, edit lists and durations."""


def several_streams(path: Path, *codecs: str, sizes: Sequence[int] = (1, 1)) -> Path:
    """Streams beside each other, the pictures of the first shrunk by the first size, and so on; and sound."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=30) for codec in codecs]
        for stream, size in zip(streams, sizes, strict=False):
            stream.height, stream.width, stream.pix_fmt = 120 // size, 160 // size, "yuv420p"
        for number, image in enumerate(FRAMES):
            for stream, size in zip(streams, sizes, strict=False):
                picture = av.VideoFrame.from_ndarray(image[::size, ::size].copy(), format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1, 30)
                container.mux(stream.encode(picture))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def beside(name: str, *codecs: str, end: str = KEPT, sizes: Sequence[int] = (1, 1)) -> Odd:
    return Odd(name, lambda folder: several_streams(folder / name, *codecs, sizes=sizes), end)


STREAMS = (
    beside("two pictures.mp4", "libx264", "libx264", sizes=(1, 2)),
    beside("two pictures, small first.mkv", "libx264", "libx264", sizes=(2, 1)),
    beside("two codecs.mkv", "mpeg4", "libx264"),
    Odd("sound alone.mp4", lambda folder: write_audio(folder / "sound alone.mp4"), RejectCode.NO_VIDEO),
    Odd("sound alone.mkv", lambda folder: write_audio(folder / "sound alone.mkv"), RejectCode.NO_VIDEO),
    film("one frame.mp4", end=RejectCode.TOO_SHORT, frames=pan(1)),
    film("one frame.gif", "gif", RejectCode.TOO_SHORT, frames=pan(1), **coloured),
    film("one frame.webm", "libvpx-vp9", RejectCode.TOO_SHORT, frames=pan(1)),
    film("two frames.mp4", end=DropReason.FEW_KEYFRAMES, frames=pan(2)),
    film("picture.avif", "libsvtav1", RejectCode.TOO_SHORT, frames=pan(1)),
    film("wall.mp4", end=DropReason.STATIC, frames=still(48)),
    film("two shots.mp4", end=DropReason.SHOT_CUT, frames=[*pan(20), *pan(20, seed=1, first=20)]),
)
"""Streams, and too little in them."""
