"""Inputs that refer to other files and hosts: nothing else is read, and each is rejected."""

import contextlib
import functools
import socket
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from kinescribe.labeling.extract import PairExtractor
from kinescribe.labeling.inputs import forbidden, input_root, list_clips
from kinescribe.media.decode import open_video
from kinescribe.schemas.config import KeyFrames, Limits, StoredImage
from kinescribe.schemas.outcomes import RejectCode, Rejected
from tests.odd_videos import FRAMES
from tests.videos import write_video

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n"
DASH = """<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S"><Period>
<AdaptationSet mimeType="video/mp4"><Representation id="0" bandwidth="1"><BaseURL>{url}</BaseURL>
</Representation></AdaptationSet></Period></MPD>"""
PLAYLISTS = {
    "hls": HLS,
    "hls with a comment": "# a comment\n" + HLS,
    "hls far down": "\n" * 5000 + HLS,
    "hls in old spelling": HLS.lower(),
    "key of hls": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:9,\nclip.ts\n#EXT-X-ENDLIST\n',
    "map of hls": '#EXTM3U\n#EXT-X-MAP:URI="{url}"\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n',
    "concat": "ffconcat version 1.0\nfile '{url}'\n",
    "concat with options": "ffconcat version 1.0\nfile '{url}'\noption safe 0\n",
    "dash": '<?xml version="1.0"?>' + DASH,
    "dash with a comment": "<!-- a comment -->" + DASH,
    "dash far down": '<?xml version="1.0"?>' + " " * 5000 + DASH,
    "session": "v=0\r\nc=IN IP4 127.0.0.1\r\nm=video {port} RTP/AVP 96\r\na=control:{url}\r\n",
    "list of shoutcast": "[playlist]\nNumberOfEntries=1\nFile1={url}\n",
    "list of windows": '<ASX version="3.0"><ENTRY><REF HREF="{url}"/></ENTRY></ASX>',
    "reference of quicktime": '<?xml version="1.0"?><?quicktime type="application/x-quicktime-media-link"?>'
    '<embed src="{url}"/>',
    "smil": '<smil><body><video src="{url}"/></body></smil>',
    "smooth": '<SmoothStreamingMedia><StreamIndex Url="{url}"/></SmoothStreamingMedia>',
    "script": 'DirectShowSource("{url}")\n',
    "metadata": ";FFMETADATA1\ntitle={url}\n",
}
URLS = [
    "{secret}",
    "file:{secret}",
    "file://{secret}",
    "concat:{secret}|{secret}",
    "subfile,,start,0,end,0,,:{secret}",
    "crypto:{secret}",
    "data:video/mp4;base64,AAAA",
    "http://127.0.0.1:{port}/clip.mp4",
    "tcp://127.0.0.1:{port}",
    "async:http://127.0.0.1:{port}/clip.mp4",
    "hls+http://127.0.0.1:{port}/clip.m3u8",
]


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that may not be read; frames of it would tell that it was."""
    return write_video(tmp_path_factory.mktemp("elsewhere") / "secret.mp4", FRAMES)


@pytest.fixture
def host() -> Iterator[socket.socket]:
    """A host that nobody should call."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        yield listener


def was_called(host: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        host.accept()[0].close()
        return True
    return False


@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "ts"])
@pytest.mark.parametrize("playlist", PLAYLISTS.values(), ids=PLAYLISTS)
def test_a_playlist_makes_the_decoder_read_nothing_else(
    tmp_path: Path, secret: Path, host: socket.socket, playlist: str, suffix: str
):
    path = tmp_path / f"list.{suffix}"
    for url in URLS:
        places = {"secret": secret, "port": host.getsockname()[1]}
        path.write_text(playlist.replace("{url}", url).format(**places), "latin-1")
        # In this process, which has a network, so that it is the decoder that doesn't use it.
        with pytest.raises(Rejected) as caught, open_video(path) as video:
            list(video.frames())
        assert caught.value.code in (RejectCode.FORBIDDEN, RejectCode.UNREADABLE)
        assert not was_called(host)


def with_reference(data: bytes, entry: bytes) -> bytes:
    """The index of an MP4, whose samples are said to be in the file that this data reference names."""

    def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
        while data:
            size = int.from_bytes(data[:4], "big")
            yield data[4:8], data[8:size]
            data = data[size:]

    def box(kind: bytes, content: bytes) -> bytes:
        return (8 + len(content)).to_bytes(4, "big") + kind + content

    def changed(kind: bytes, content: bytes) -> bytes:
        if kind == b"dref":
            content = bytes(4) + (1).to_bytes(4, "big") + entry
        elif kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
            content = b"".join(changed(*inner) for inner in boxes(content))
        return box(kind, content)

    kept = [changed(*outer) for outer in boxes(data) if outer[0] in (b"ftyp", b"moov")]
    return b"".join(kept) + box(b"mdat", bytes(len(data)))


def alias_reference(path: Path) -> bytes:
    """An alias of QuickTime with the absolute path of a file on the volume `disk`."""
    volume, name, place = b"disk", path.name.encode(), f"disk{path}".replace("/", ":").encode()
    alias = bytes(10) + bytes([len(volume)]) + volume.ljust(27, b"\0") + bytes(12)
    alias += bytes([len(name)]) + name.ljust(63, b"\0") + bytes(36)
    alias += (2).to_bytes(2, "big") + len(place).to_bytes(2, "big") + place + bytes(len(place) % 2)
    content = bytes(4) + alias + b"\xff\xff\0\0"
    return (8 + len(content)).to_bytes(4, "big") + b"alis" + content


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_data_reference_makes_the_decoder_read_no_other_file(tmp_path: Path, secret: Path, suffix: str):
    path = tmp_path / f"thief.{suffix}"
    path.write_bytes(with_reference(secret.read_bytes(), alias_reference(secret)))
    with av.open(str(path), options={"enable_drefs": "1", "use_absolute_path": "1"}) as allowed:
        assert sum(1 for _ in allowed.decode(video=0)) == len(FRAMES)
    frames: list[object] = []
    with contextlib.suppress(Rejected), open_video(path) as video:
        frames += list(video.frames())
    assert frames == []


def test_a_host_that_is_called_is_noticed(host: socket.socket):
    socket.create_connection(host.getsockname()).close()
    assert was_called(host)


def test_uris_that_a_manifest_must_not_contain_are_forbidden(
    tmp_path: Path, secret: Path, host: socket.socket
):
    folder = tmp_path / "in"
    folder.mkdir()
    write_video(folder / "good.mp4", FRAMES)
    (folder / "link.mp4").symlink_to(secret)
    (folder / "up").symlink_to(secret.parent)
    port = host.getsockname()[1]
    rows = [
        "link.mp4",
        "up/secret.mp4",
        f"../../{secret.parent.name}/secret.mp4",
        f"{folder}/../{secret.name}",
        f"file://{folder}/../{secret.name}",
        str(secret),
        f"file://{secret}",
        "/etc/passwd",
        "file:///etc/passwd",
        "file:///proc/self/environ",
        f"http://127.0.0.1:{port}/a.mp4",
        f"https://localhost:{port}/a.mp4",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://10.0.0.1/a.mp4",
        "http://metadata.google.internal/a.mp4",
        "ftp://127.0.0.1/a.mp4",
        "sftp://127.0.0.1/a.mp4",
        "smb://127.0.0.1/share/a.mp4",
        "github://a.mp4",
        "pipe://cat /etc/passwd",
        "data://video/mp4;base64,AAAA",
        f"zip://secret.mp4::{secret.parent}/a.zip",
        f"simplecache::http://127.0.0.1:{port}/a.mp4",
        f"filecache::file://{secret}",
        f"reference::http://127.0.0.1:{port}/a.json",
        "s3://bucket/a.mp4::http://127.0.0.1",
        "local://" + str(secret),
        "FILE://" + str(secret),
    ]
    lines = [f'"{row}",{index}' for index, row in enumerate(("good.mp4", *rows))]
    (folder / "m.csv").write_text("\n".join(["uri,id", *lines]))  # the ids allow two spellings of a video
    given = str(folder / "m.csv")
    allowed = functools.partial(forbidden, root=input_root(given))
    extractor = PairExtractor(Limits(), KeyFrames(), StoredImage(), allowed)
    try:
        good, *bad = [extractor.extract(clip) for clip in list_clips(given, Limits(), extractor.duration_s)]
    finally:
        extractor.close()
    assert good.outcome is None
    reasons = {row: one.outcome and one.outcome.reason for row, one in zip(rows, bad, strict=True)}
    assert reasons == dict.fromkeys(rows, RejectCode.FORBIDDEN)
    assert not was_called(host)
