"""Damaged clips, and files that only look like clips, each with its right outcome."""

import random
import struct
from pathlib import Path

from kinescribe.schemas.outcomes import DropReason, RejectCode
from tests.crowded_videos import CROWDED
from tests.odd_videos import CONTAINERS, PICTURES, STREAMS, TIMES, Change, Odd, box, coloured, film
from tests.videos import pan


def bytes_of(name: str, data: bytes | str, end: str = RejectCode.UNREADABLE) -> Odd:
    """A file with these bytes."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return Odd(name, make, end)


def middle(num_bytes: int, fill: int | None = None, seed: int = 0) -> Change:
    """Overwrites bytes in the middle of a file, with one value or at random."""

    def change(data: bytes) -> bytes:
        start = len(data) // 2
        noise = random.Random(seed).randbytes(num_bytes) if fill is None else bytes([fill]) * num_bytes
        return data[:start] + noise + data[start + num_bytes :]

    return change


def cut(share: float) -> Change:
    """Keeps the first part of a file."""
    return lambda data: data[: int(len(data) * share)]


def flips(num: int, first: float = 0.0, last: float = 1.0, seed: int = 0) -> Change:
    """Flips single bits between two positions, given as shares of the file."""

    def change(data: bytes) -> bytes:
        changed, chance = bytearray(data), random.Random(seed)
        for _ in range(num):
            changed[int(len(data) * chance.uniform(first, last))] ^= 1 << chance.randrange(8)
        return bytes(changed)

    return change


indexed_first = {"muxer": {"movflags": "faststart"}}
grouped = {"options": {"g": "12"}}
few, unreadable = DropReason.FEW_KEYFRAMES, RejectCode.UNREADABLE
too_large, forbidden = RejectCode.TOO_LARGE, RejectCode.FORBIDDEN
DAMAGED = (
    *(film(f"cut at {share}.mp4", end=unreadable, change=cut(share)) for share in (0.002, 0.01, 0.5, 0.95)),
    film("cut index first at 0.02.mp4", end=RejectCode.NO_VIDEO, change=cut(0.02), **indexed_first),
    film("cut index first at 0.5.mp4", end=unreadable, change=cut(0.5), **indexed_first),
    film("cut index first at 0.99.mp4", end=unreadable, change=cut(0.99), **indexed_first),
    film(
        "cut fragmented.mp4", end=unreadable, change=cut(0.6), muxer={"movflags": "frag_keyframe+empty_moov"}
    ),
    film("cut at 0.01.mkv", end=unreadable, change=cut(0.01)),
    film("cut at 0.5.mkv", end=few, change=cut(0.5)),
    film("cut at 0.99.mkv", change=cut(0.99)),
    film("cut at 0.02.ts", end=unreadable, change=cut(0.02)),
    film("cut at 0.5.ts", end=few, change=cut(0.5)),
    film("cut at 0.99.ts", change=cut(0.99)),
    film(
        "begins midway.ts",
        frames=pan(96),
        change=lambda data: data[len(data) // 3 // 188 * 188 :],
        time_of=None,
        **grouped,
    ),
    film("cut.avi", "mjpeg", unreadable, pixels="yuvj420p", change=cut(0.99)),
    film("cut.webm", "libvpx-vp9", change=cut(0.9)),
    film("cut.mpg", "mpeg2video", unreadable, change=cut(0.9)),
    film("cut.gif", "gif", **coloured, change=cut(0.9)),
    film("cut.ivf", "libsvtav1", end=unreadable, change=cut(0.6)),
    film("flipped bits.mp4", end=unreadable, change=flips(9, 0.3, 0.8)),
    film("flipped bits.mkv", end=unreadable, change=flips(9, 0.3, 0.8)),
    film("flipped bits.ts", end=unreadable, change=flips(9, 0.3, 0.8)),
    film("flipped bits.mpg", "mpeg2video", unreadable, change=flips(9, 0.3, 0.8)),
    film("flipped bits.avi", "mpeg4", unreadable, change=flips(9, 0.3, 0.8)),
    film("flipped bits.mov", "prores_ks", unreadable, pixels="yuv422p10le", change=flips(60, 0.3, 0.8)),
    film("flipped bits of av1.mp4", "libsvtav1", unreadable, change=flips(9, 0.3, 0.8)),
    film("flipped bits in the index.mp4", end=unreadable, change=flips(20, 0.85, 1.0)),
    film("unknown codec.mp4", end=unreadable, change=lambda data: data.replace(b"avc1", b"zzz1")),
    film("hole.mp4", end=unreadable, change=middle(500, 0)),
    film("hole.mkv", end=unreadable, change=middle(500, 0)),
    film("hole.ts", end=unreadable, change=middle(1880, 0)),
    film("noise.mpg", "mpeg2video", unreadable, change=middle(1000)),
    film("noise.avi", "mpeg4", unreadable, change=middle(1000)),
    film("junk before.ts", change=lambda data: b"x" * 1000 + data),
    film("junk before.mp4", end=unreadable, change=lambda data: b"x" * 1000 + data),
    film("junk after.mp4", change=lambda data: data + b"x" * 1000),
    film("junk after.mkv", change=lambda data: data + b"x" * 1000),
)
"""Truncated, flipped, overwritten. Where a decoder sees the damage, nothing of the clip is used."""


def jpeg_size(width: int, height: int, first: int = 0) -> Change:
    """Has the frames of a Motion JPEG say that they are so large, from a frame on."""

    def change(data: bytes) -> bytes:
        start = data.index(b"\xff\xc0")
        for _ in range(first):
            start = data.index(b"\xff\xc0", start + 1)
        said = data[start + 5 : start + 9]
        return data[:start] + data[start:].replace(said, struct.pack(">HH", height, width))

    return change


jpeg = {"pixels": "yuvj420p"}
HUGE = (
    film(
        "large canvas.gif",
        "gif",
        too_large,
        **coloured,
        change=box(b"GIF8", 2, struct.pack("<HH", 16384, 8192)),
    ),
    film(
        "large by its header.y4m",
        "rawvideo",
        too_large,
        change=lambda data: data.replace(b"W160 H120", b"W16384 H8192", 1),
    ),
    film("large pictures.avi", "mjpeg", unreadable, change=jpeg_size(16384, 8192), **jpeg),
    film("large pictures midway.avi", "mjpeg", unreadable, change=jpeg_size(16384, 8192, 30), **jpeg),
)
"""Small files of pictures of 16384x8192."""


page = "<!DOCTYPE html><html><body>404 Not Found</body></html>"
playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
DISGUISED = (
    bytes_of("empty.mp4", b""),
    bytes_of("zeros.mp4", bytes(4096)),
    bytes_of("noise.mp4", random.Random(0).randbytes(4096)),
    bytes_of("page.mp4", page),
    bytes_of("text.avi", "RIFF, said the video\n" * 99),
    bytes_of("archive.mp4", b"PK\3\4" + bytes(99)),
    bytes_of("program.mp4", b"\x7fELF" + bytes(99)),
    bytes_of("document.mp4", "%PDF-1.7\n" * 9),
    bytes_of("png.mp4", b"\x89PNG\r\n\x1a\n" + bytes(99)),
    bytes_of("header alone.mp4", struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 512)),
    bytes_of("endless box.mp4", struct.pack(">I4sQ", 1, b"moov", 2**63), RejectCode.NO_VIDEO),
    bytes_of(
        "box of minus one.mp4",
        struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 512) + struct.pack(">I4s", 2**32 - 1, b"moov"),
        RejectCode.NO_VIDEO,
    ),
    bytes_of(
        "boxes in boxes.mp4",
        struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 512)
        + b"".join(struct.pack(">I4s", 8 * n, b"trak") for n in range(9000, 0, -1)),
    ),
    bytes_of("hls.mp4", playlist, forbidden),
    bytes_of("hls with a mark.ts", "\ufeff\n " + playlist, forbidden),
    bytes_of("concat.mp4", "ffconcat version 1.0\nfile 'h264.mp4'\n", forbidden),
    bytes_of(
        "dash.mp4", '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>', forbidden
    ),
    bytes_of("session.mp4", "v=0\r\nc=IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n", forbidden),
    bytes_of("playlist.mp4", "[playlist]\nFile1=http://localhost/a.mp4\n", forbidden),
    film("matroska.mp4", written_as="matroska.mkv"),
    film("mp4.avi", written_as="mp4.mp4"),
    film("gif.mp4", "gif", **coloured, written_as="gif.gif"),
    film("stream.txt", written_as="stream.ts"),
)
"""What is no video, or a video by another name."""

ALL = (*CONTAINERS, *PICTURES, *TIMES, *DAMAGED, *HUGE, *STREAMS, *DISGUISED, *CROWDED)
