"""Files with odd names and of odd kinds, and files that change, through the real extractor."""

import contextlib
import functools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinescribe.labeling.extract import PairExtractor
from kinescribe.labeling.inputs import forbidden, input_root, list_clips
from kinescribe.media.decode import open_video
from kinescribe.schemas.clips import Clip
from kinescribe.schemas.config import KeyFrames, Limits, StoredImage
from kinescribe.schemas.outcomes import Rejected
from tests.odd_videos import FRAMES
from tests.videos import number_of, write_video

NAMES = [
    "ünïcödé ☃ 動画.mp4",
    "new\nline.mp4",
    "carriage\rreturn.mp4",
    "x" * 251 + ".mp4",
    "-i.mp4",
    "<img src=x onerror=alert(1)>.mp4",
    "co::lon.mp4",
    "zip:::a.mp4",
    "concat:a|b.mp4",
    "http:host.mp4",
    "%2e%2e%2f.mp4",
    "*?[a-z].mp4",
    " spaced .mp4",
    "~.mp4",
    "$HOME`id`.mp4",
    "back\\slash.mp4",
    "quote'\",=1+1.mp4",
    "\x1b[31mred.mp4",
    "\u202emirrored.mp4",
    "bell\x07\x7f.mp4",
    "frame-%03d.mp4",
]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", FRAMES).read_bytes()


@pytest.fixture
def extractor(tmp_path: Path) -> Iterator[PairExtractor]:
    allowed = functools.partial(forbidden, root=input_root(str(tmp_path / "in")))
    one = PairExtractor(Limits(), KeyFrames(), StoredImage(), allowed)
    yield one
    one.close()


def ends(extractor: PairExtractor, clips: list[Clip]) -> dict[str, str]:
    """The outcome of each clip, by the name of its file."""
    found = {}
    for clip in clips:
        outcome = extractor.extract(clip).outcome
        found[os.path.basename(clip.uri)] = str(outcome.reason) if outcome else "kept"  # noqa: PTH119
    return found


def test_any_name_is_a_name(tmp_path: Path, video: bytes, extractor: PairExtractor):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(video)
    clips = list_clips(str(folder), Limits())
    assert len({clip.clip_id for clip in clips}) == len(NAMES)
    assert ends(extractor, clips) == dict.fromkeys(NAMES, "kept")


def test_any_name_can_be_in_a_manifest_and_be_the_input(
    tmp_path: Path, video: bytes, extractor: PairExtractor
):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("co::lon.mp4", "new\nline.mp4", "-i.mp4"):
        (folder / name).write_bytes(video)
        (given,) = list_clips(str(folder / name), Limits())
        assert given.uri == str(folder / name)
    (folder / "m.csv").write_text('uri\nco::lon.mp4\n"new\nline.mp4"\n-i.mp4\n')
    clips = list_clips(str(folder / "m.csv"), Limits())
    assert ends(extractor, clips) == dict.fromkeys(("co::lon.mp4", "new\nline.mp4", "-i.mp4"), "kept")


def test_the_same_name_in_two_folders_is_two_clips(tmp_path: Path, video: bytes):
    for name in ("a/clip.mp4", "b/clip.mp4", "b/CLIP.mp4"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video)
    assert len({clip.clip_id for clip in list_clips(str(tmp_path / "in"), Limits())}) == 3


def test_paths_that_are_not_files_are_rejected(tmp_path: Path, video: bytes, extractor: PairExtractor):
    folder = tmp_path / "in"
    (folder / "folder.mp4").mkdir(parents=True)
    (folder / "folder.mp4" / "inside.mp4").write_bytes(video)
    (tmp_path / "secret.mp4").write_bytes(video)
    os.mkfifo(folder / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.mp4"))
    (folder / "zero.mp4").symlink_to("/dev/zero")
    (folder / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "up.mp4").symlink_to("../secret.mp4")
    (folder / "nowhere.mp4").symlink_to("nothing.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "within.mp4").symlink_to("folder.mp4/inside.mp4")
    assert ends(extractor, list_clips(str(folder), Limits())) == {
        "inside.mp4": "kept",
        "within.mp4": "kept",
        "pipe.mp4": "unreadable",
        "socket.mp4": "unreadable",
        "zero.mp4": "forbidden",
        "out.mp4": "forbidden",
        "up.mp4": "forbidden",
        "nowhere.mp4": "missing",
        "loop.mp4": "missing",
    }


def test_a_file_that_may_not_be_read_is_one_reject(tmp_path: Path, video: bytes, extractor: PairExtractor):
    if os.geteuid() == 0:
        pytest.skip("root reads anything")
    folder = tmp_path / "in"
    (folder / "closed").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4", "closed/c.mp4"):
        (folder / name).write_bytes(video)
    clips = list_clips(str(folder), Limits())
    (folder / "a.mp4").chmod(0)
    (folder / "closed").chmod(0)
    try:
        assert ends(extractor, clips) == {"a.mp4": "unreadable", "b.mp4": "kept", "c.mp4": "unreadable"}
    finally:
        (folder / "closed").chmod(0o700)


def test_a_file_that_changed_since_it_was_listed_is_taken_as_it_is(
    tmp_path: Path, video: bytes, extractor: PairExtractor
):
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["gone.mp4", "folder.mp4", "link.mp4", "empty.mp4", "page.mp4", "same.mp4"]
    for name in names:
        (folder / name).write_bytes(video)
    (tmp_path / "secret.mp4").write_bytes(video)
    clips = list_clips(str(folder), Limits())
    for name in names[:3]:
        (folder / name).unlink()
    (folder / "folder.mp4").mkdir()
    (folder / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "page.mp4").write_text("<html>moved</html>")
    assert ends(extractor, clips) == {
        "gone.mp4": "missing",
        "folder.mp4": "unreadable",
        "link.mp4": "forbidden",
        "empty.mp4": "unreadable",
        "page.mp4": "unreadable",
        "same.mp4": "kept",
    }


@pytest.mark.parametrize("change", ["unlinked", "replaced", "truncated", "overwritten"])
def test_a_file_that_changes_while_it_is_decoded_gives_correct_frames_or_none(tmp_path: Path, change: str):
    path = write_video(tmp_path / "clip.avi", FRAMES, codec="mjpeg", pixels="yuvj420p", options={"qmin": "1"})
    size_bytes = path.stat().st_size
    numbers: list[int] = []
    with open_video(path) as video, contextlib.suppress(Rejected):
        for frame in video.frames():
            numbers.append(number_of(frame.rgb(512)))
            if len(numbers) == 3:
                _change(path, change, size_bytes // 2)
    assert numbers == list(range(len(numbers)))
    assert (len(numbers) == len(FRAMES)) == (change in ("unlinked", "replaced"))


def _change(path: Path, change: str, size_bytes: int) -> None:
    if change == "unlinked":
        path.unlink()
    elif change == "replaced":
        other = path.with_name("other")
        other.write_bytes(b"<html></html>")
        other.replace(path)
    elif change == "truncated":
        os.truncate(path, size_bytes)
    else:
        with path.open("r+b") as file:
            file.seek(size_bytes)
            file.write(b"\xff" * size_bytes)
