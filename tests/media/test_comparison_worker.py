"""The program that compares, on videos that decord reads right, and on those that it is known not to."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kinescribe.media.comparison_protocol import (
    ComparedFrame,
    ComparisonReply,
    ComparisonRequest,
    StoredFrame,
)
from kinescribe.media.comparison_worker import answer
from kinescribe.media.decode import open_video
from kinescribe.media.still_images import stored
from kinescribe.schemas.config import DecodeLimits, StoredImage
from kinescribe.schemas.frame_check import Incomparable
from kinescribe.schemas.outcomes import RejectCode
from tests.odd_videos import edit
from tests.videos import pan, write_video

HLG = {"x264-params": "transfer=arib-std-b67:colorprim=bt2020:colormatrix=bt2020nc"}
RIGHT = ComparedFrame(is_right=True)


def stored_frames(path: Path, *numbers: int) -> list[StoredFrame]:
    """Frames as the first decoder has them, as the dataset stores them."""
    with open_video(path) as video:
        frames = {frame.index: (frame.time_s, frame.rgb(512)) for frame in video.frames()}
    return [
        StoredFrame(time_s=frames[number][0], image=stored(frames[number][1], StoredImage()))
        for number in numbers
    ]


def compare(path: Path, frames: Sequence[StoredFrame], limits: DecodeLimits | None = None) -> ComparisonReply:
    pairs = tuple(zip(frames[::2], frames[1::2], strict=True))
    request = ComparisonRequest(path=path, pairs=pairs, limits=limits or DecodeLimits())
    return ComparisonReply.model_validate_json(answer(request.model_dump_json().encode()))


def compared(path: Path) -> ComparisonReply:
    return compare(path, stored_frames(path, 20, 40))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotated_video_is_right(tmp_path: Path, rotation: int):
    assert compared(write_video(tmp_path / "clip.mp4", pan(50), rotation=rotation)).pairs == ((RIGHT, RIGHT),)


def test_hdr_interlaced_and_stretched_videos_are_right(tmp_path: Path):
    interlaced = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    paths = [
        write_video(tmp_path / "hdr.mp4", pan(50), pixels="yuv420p10le", options=HLG),
        write_video(tmp_path / "interlaced.mkv", pan(50), options=interlaced),
        write_video(tmp_path / "cif.avi", pan(50), codec="mpeg4", options={"bf": "2"}),
    ]
    assert [compared(path).pairs for path in paths] == [((RIGHT, RIGHT),)] * 3


def test_hdr_frames_that_are_shifted_differ(tmp_path: Path):
    path = write_video(tmp_path / "hdr.mp4", pan(50), pixels="yuv420p10le", options=HLG)
    shifted = [
        frame.model_copy(update={"time_s": frame.time_s + 0.1}) for frame in stored_frames(path, 20, 40)
    ]
    ((source, target),) = compare(path, shifted).pairs
    assert (source.seen, target.seen) == ("the frame at 0.667 s", "the frame at 1.333 s")


def test_a_mirrored_video_is_not_comparable(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(50), matrix=(-1, 0, 0, 1))
    assert compared(path).not_comparable is Incomparable.MIRRORED


def test_an_edit_list_that_leaves_frames_out_is_not_comparable(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(60))
    path.write_bytes(edit(10 * 3000)(path.read_bytes()))
    assert compared(path).not_comparable is Incomparable.EDIT_LIST


def test_a_narrow_video_is_not_comparable(tmp_path: Path):
    frames = [np.ascontiguousarray(frame[:, :40]) for frame in pan(50)]
    assert compared(write_video(tmp_path / "clip.mp4", frames)).not_comparable is Incomparable.NARROW


def test_a_clock_that_restarts_is_not_comparable(tmp_path: Path):
    path = write_video(tmp_path / "clip.ts", pan(60), options={"g": "12"})
    path.write_bytes(path.read_bytes() * 2)
    assert compared(path).not_comparable is Incomparable.CLOCK_JUMPS


def test_what_decord_does_not_open_is_not_comparable(tmp_path: Path):
    path = write_video(tmp_path / "clip.mkv", pan(50), muxer={"live": "1"})
    reply = compared(path)
    assert (reply.not_comparable, reply.reject) == (Incomparable.DECORD_FAILS, None)
    assert reply.message.startswith("decord: ")


def test_a_video_beyond_the_limits_or_a_playlist_is_a_reject(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(50))
    frames = stored_frames(path, 20, 40)
    assert compare(path, frames, DecodeLimits(max_pixels=100)).reject is RejectCode.TOO_LARGE
    path.write_text("#EXTM3U\n/etc/passwd\n")
    assert compare(path, frames).reject is RejectCode.FORBIDDEN
    assert compare(tmp_path / "none.mp4", frames).reject is RejectCode.MISSING


def test_a_stored_image_that_is_none_and_a_time_without_a_frame_differ(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(50))
    (frame,) = stored_frames(path, 20)
    damaged = StoredFrame(time_s=0.5, image=b"no image")
    ((late, broken),) = compare(path, [frame.model_copy(update={"time_s": 9.0}), damaged]).pairs
    assert late == ComparedFrame(seen="a time without a frame; the nearest is at 1.633 s")
    assert broken.seen.startswith("an image that cannot be read")
    assert not late.is_right
    assert not broken.is_right
