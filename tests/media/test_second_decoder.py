"""The second decoder on videos whose frames show their numbers."""

from pathlib import Path

import pytest

from kinescribe.media.second_decoder import MIN_SEEK, SecondVideo
from kinescribe.schemas.outcomes import RejectCode, Rejected
from tests.videos import Image, number_of, numbered, pan, texture, write_video


def frame(number: int) -> Image:
    return numbered(texture(number % 7, 160, 120), number % 256)


def numbers(video: SecondVideo, indices: list[int]) -> dict[int, int]:
    return {index: number_of(picture) for index, picture in video.frames(indices)}


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_frame_far_into_a_video_is_sought_and_then_read_in_order_again(tmp_path: Path, name: str):
    frames = [frame(number) for number in range(MIN_SEEK + 100)]
    video = SecondVideo(write_video(tmp_path / name, frames, options={"g": "48", "bf": "3"}))
    wanted = [MIN_SEEK + 20, MIN_SEEK + 21, MIN_SEEK + 60]
    expected = {index: index % 256 for index in wanted}
    assert numbers(video, wanted) == expected
    assert video.rewind()
    assert numbers(video, wanted) == expected
    assert not video.rewind()


def test_frames_near_the_beginning_are_not_sought(tmp_path: Path):
    video = SecondVideo(write_video(tmp_path / "clip.mp4", pan(60)))
    assert numbers(video, [0, 7, 59]) == {0: 0, 7: 7, 59: 59}
    assert not video.rewind()


def test_frames_that_are_lost_from_a_stream_do_not_shift_the_others(tmp_path: Path):
    path = write_video(tmp_path / "clip.ts", pan(90), options={"g": "12", "bf": "2"})
    read = numbers(SecondVideo(path), list(range(90)))
    assert len(read) > 60
    assert all(index == number for index, number in read.items())


def test_an_avi_without_timestamps_has_a_constant_rate(tmp_path: Path):
    video = SecondVideo(write_video(tmp_path / "clip.avi", pan(60), codec="mpeg4", options={"bf": "2"}))
    assert not video.has_timestamps
    assert video.times_s[30] == pytest.approx(1.0)
    assert numbers(video, [30, 45]) == {30: 30, 45: 45}


def test_a_playlist_opens_no_other_file(tmp_path: Path):
    write_video(tmp_path / "private.ts", pan(90), options={"g": "12"})
    playlist = tmp_path / "clip.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nprivate.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(Rejected) as error:
        SecondVideo(playlist)
    assert error.value.code is RejectCode.UNREADABLE


def test_files_can_be_opened_again_after_a_video_is_read(tmp_path: Path):
    video = SecondVideo(write_video(tmp_path / "clip.mp4", pan(10)))
    assert str(tmp_path / "clip.mp4") in video.opened
    assert len(dict(video.frames(range(10)))) == 10
    assert (tmp_path / "clip.mp4").read_bytes()


def test_what_decord_cannot_open_is_a_reject_in_one_line(tmp_path: Path):
    (tmp_path / "clip.mp4").write_bytes(b"\0" * 1000)
    with pytest.raises(Rejected, match="decord: ") as error:
        SecondVideo(tmp_path / "clip.mp4")
    assert "\n" not in error.value.message
