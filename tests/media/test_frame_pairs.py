import io
import itertools
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as Pillow

from kinescribe.media.decode import open_video
from kinescribe.media.decode_protocol import DecodeReply, DecodeRequest
from kinescribe.media.decoded_frame import DecodedFrame
from kinescribe.media.frame_pairs import (
    HeldFrame,
    _encode_oldest,
    _sampled,
    duration,
    frame_pairs,
    frames_within,
    key_frames,
)
from kinescribe.media.motion import pair_motion
from kinescribe.media.still_images import small_grey
from kinescribe.schemas.clips import FrameQuality
from kinescribe.schemas.config import KeyFrames, Limits, StoredImage
from kinescribe.schemas.outcomes import DropReason, RejectCode, Rejected
from tests.videos import Image, number_of, pan, still, write_video


def job(path: Path, **changes: object) -> DecodeRequest:
    defaults = {
        "task": "pairs",
        "path": path,
        "limits": Limits(),
        "keyframes": KeyFrames(),
        "image": StoredImage(),
    }
    return DecodeRequest.model_validate({**defaults, **changes})


def images(reply: DecodeReply) -> list[Image]:
    return [np.asarray(Pillow.open(io.BytesIO(frame.image))) for frame in reply.frames]


def code_of(one: DecodeRequest) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        frame_pairs(one)
    return caught.value.code


def decoded(frames: list[Image]) -> list[DecodedFrame]:
    pictures = (av.VideoFrame.from_ndarray(np.ascontiguousarray(one), format="rgb24") for one in frames)
    return [DecodedFrame(index, index / 30, picture) for index, picture in enumerate(pictures)]


def test_a_clip_becomes_adjacent_key_frames_with_their_own_times(tmp_path: Path):
    reply = frame_pairs(job(write_video(tmp_path / "clip.mp4", pan(110))))
    found = [number_of(image) for image in images(reply)]
    assert len(found) >= 4
    assert [frame.time_s for frame in reply.frames] == pytest.approx([n / 30 for n in found])
    assert min(later - earlier for earlier, later in itertools.pairwise(found)) >= 20
    assert [(pair.source, pair.target) for pair in reply.pairs] == list(itertools.pairwise(range(len(found))))
    assert all(pair.motion > 1 for pair in reply.pairs)
    assert reply.pair_drops == {}


def test_motion_is_measured_from_the_source_to_the_target(tmp_path: Path):
    path, png = write_video(tmp_path / "clip.mp4", pan(45)), StoredImage(format="png")
    reply = frame_pairs(job(path, image=png))
    source, target = (small_grey(image) for image in images(reply)[:2])
    assert reply.pairs[0].motion == pair_motion(source, target) != pair_motion(target, source)


def test_key_frames_are_where_the_motion_is(tmp_path: Path):
    calm = pan(60, step=0.1)
    reply = frame_pairs(
        job(
            write_video(tmp_path / "clip.mp4", calm[:30] + pan(8, step=5.0, first=30) + calm[30:]),
            keyframes=KeyFrames(max_keyframes=2, min_interval=5),
        )
    )
    assert all(31 <= number_of(image) <= 38 for image in images(reply))


def test_pair_never_spans_a_cut(tmp_path: Path):
    shots = [*pan(45, seed=1), *pan(45, seed=2, first=45), *pan(45, seed=3, first=90)]
    reply = frame_pairs(job(write_video(tmp_path / "film.mp4", shots)))
    found = [number_of(image) for image in images(reply)]
    assert len(reply.pairs) >= 2
    assert all(found[pair.source] // 45 == found[pair.target] // 45 for pair in reply.pairs)
    assert reply.pair_drops == {DropReason.SHOT_CUT: len(found) - 1 - len(reply.pairs)}


def test_a_clip_in_which_nothing_moves_has_static_pairs(tmp_path: Path):
    path = write_video(tmp_path / "wall.mp4", still(60, noise=4.0), options={"crf": "30"})
    reply = frame_pairs(job(path))
    assert reply.frames == reply.pairs == ()
    assert reply.pair_drops == {DropReason.STATIC: 2}


def test_a_clip_shorter_than_the_interval_has_no_pair(tmp_path: Path):
    reply = frame_pairs(job(write_video(tmp_path / "brief.mp4", pan(15))))
    assert (reply.frames, reply.pairs, reply.pair_drops) == ((), (), {})


@pytest.mark.parametrize("num_frames", [21, 25, 30, 39])
def test_a_short_clip_has_a_pair_wherever_its_strongest_frame_is(tmp_path: Path, num_frames: int):
    frames = pan(num_frames, step=0.5)
    middle = num_frames // 2
    frames[middle:] = [np.roll(image, 8, axis=1) for image in frames[middle:]]
    reply = frame_pairs(job(write_video(tmp_path / "clip.mp4", frames)))
    assert len(reply.pairs) == 1
    assert reply.frames[1].time_s - reply.frames[0].time_s >= 20 / 30 - 1e-3


def test_a_slow_clip_has_pairs_some_seconds_apart(tmp_path: Path):
    path = write_video(tmp_path / "slow.mp4", pan(20), times_s=[float(second) for second in range(20)])
    reply = frame_pairs(job(path))
    assert len(reply.pairs) == 5
    times_s = [frame.time_s for frame in reply.frames]
    assert min(later - earlier for earlier, later in itertools.pairwise(times_s)) >= 2


@pytest.mark.parametrize("min_interval", [8, 20])
def test_a_flash_of_three_frames_is_no_cut_at_any_interval(tmp_path: Path, min_interval: int):
    frames = pan(90, step=1.0)
    for index in range(44, 47):
        frames[index] = np.full_like(frames[index], 255)
    keyframes = KeyFrames(min_interval=min_interval)
    reply = frame_pairs(job(write_video(tmp_path / "flash.mp4", frames), keyframes=keyframes))
    assert DropReason.SHOT_CUT not in reply.pair_drops


@pytest.mark.parametrize("start", range(40, 46))
def test_no_key_frame_is_within_a_flash(start: int):
    frames = pan(90, step=0.2)
    frames[start : start + 3] = [np.full_like(frames[0], 250)] * 3
    chosen, _ = key_frames(decoded(frames), KeyFrames(max_keyframes=30, min_interval=8), StoredImage())
    assert len(chosen) > 6
    assert not {one.index for one in chosen} & set(range(start, start + 3))


def test_two_frames_make_a_pair_where_the_interval_is_one(tmp_path: Path):
    path = write_video(tmp_path / "two.mp4", pan(2, step=3.0))
    assert len(frame_pairs(job(path, keyframes=KeyFrames(min_interval=1))).pairs) == 1


def test_a_window_is_a_clip_of_its_own(tmp_path: Path):
    path = write_video(tmp_path / "long.mp4", pan(150), options={"g": "15"})
    reply = frame_pairs(job(path, start_s=2.0, end_s=4.0))
    assert all(2.0 <= frame.time_s < 4.0 for frame in reply.frames)
    assert [number_of(image) for image in images(reply)] == [round(f.time_s * 30) for f in reply.frames]
    assert len(reply.pairs) == 2


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_stored_images_are_small_upright_and_the_same_every_time(tmp_path: Path, kind: str):
    path = write_video(tmp_path / "phone.mp4", pan(45), rotation=90)
    one = job(path, image=StoredImage.model_validate({"max_side": 64, "format": kind}))
    reply = frame_pairs(one)
    assert reply == frame_pairs(one)
    assert {image.shape for image in images(reply)} == {(64, 48, 3)}
    assert {Pillow.open(io.BytesIO(frame.image)).format for frame in reply.frames} == {kind.upper()}


def test_frames_beyond_the_memory_limit_are_encoded_early_with_the_same_result():
    frames = decoded(pan(120))
    expected, _ = key_frames(frames, KeyFrames(), StoredImage())
    relieved, _ = key_frames(frames, KeyFrames(), StoredImage(), max_held_bytes=0)
    assert [one.time_s for one in relieved] == [one.time_s for one in expected]
    assert [one.image for one in relieved] == [one.image for one in expected]


def test_a_stream_may_change_its_size_midway():
    first, second = pan(30), [np.ascontiguousarray(image[::2, ::2]) for image in pan(60)[30:]]
    chosen, _ = key_frames(decoded(first + second), KeyFrames(), StoredImage())
    shapes = {Pillow.open(io.BytesIO(one.image)).size for one in chosen}
    assert shapes == {(160, 120), (80, 60)}
    assert {one.shot for one in chosen} == {0}


@pytest.mark.parametrize("num_frames", [0, 1])
def test_fewer_than_two_frames_in_a_window_are_too_short(tmp_path: Path, num_frames: int):
    path = write_video(tmp_path / "clip.mp4", pan(30))
    one = job(path, start_s=0.5, end_s=0.5 + num_frames / 30 - 0.001)
    assert code_of(one) == RejectCode.TOO_SHORT


def test_a_window_after_the_end_is_too_short(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(30))
    assert code_of(job(path, start_s=50.0, end_s=60.0)) == RejectCode.TOO_SHORT


def test_a_single_frame_is_too_short(tmp_path: Path):
    assert code_of(job(write_video(tmp_path / "photo.mp4", pan(1)))) == RejectCode.TOO_SHORT


def test_a_stream_without_timestamps_is_unreadable(tmp_path: Path):
    assert code_of(job(write_video(tmp_path / "raw.h264", pan(5)))) == RejectCode.UNREADABLE


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path):
    path = write_video(tmp_path / "wide.mp4", pan(2))
    assert code_of(job(path, limits=Limits(max_pixels=160 * 119))) == RejectCode.TOO_LARGE


def test_a_file_that_is_longer_than_it_says_is_too_large(tmp_path: Path):
    # A transport stream doesn't say; here the header is not asked.
    path = write_video(tmp_path / "clip.mkv", pan(90))
    data = path.read_bytes()
    duration = data.index(b"\x44\x89\x88")
    path.write_bytes(data[: duration + 3] + np.array(100.0, ">f8").tobytes() + data[duration + 11 :])
    limits = Limits(max_duration_s=2.0, window_s=2.0)
    assert code_of(job(path, limits=limits)) == RejectCode.TOO_LARGE


def test_the_duration_is_that_of_the_header(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(60))
    reply = duration(job(path, task="duration"))
    assert reply.duration_s == pytest.approx(2.0, abs=0.05)


def test_a_short_window_late_in_a_long_file_is_within_the_limits(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(150))
    limits = Limits(max_duration_s=1.6, window_s=1.6)
    reply = frame_pairs(job(path, limits=limits, start_s=3.0, end_s=4.5))
    assert 3.0 <= reply.frames[0].time_s < reply.frames[-1].time_s < 4.5


def test_a_pair_with_exactly_the_least_motion_is_kept(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(45))
    (pair, *_) = frame_pairs(job(path)).pairs
    keyframes = KeyFrames(min_motion=pair.motion)
    assert pair in frame_pairs(job(path, keyframes=keyframes)).pairs


class FakeVideo:
    """A video with frames at these times, of which more may have been decoded than have a time."""

    goes_on = False

    def __init__(self, times_s: list[float], num_decoded: int | None = None) -> None:
        self.times_s = times_s
        self.num_decoded = len(times_s) if num_decoded is None else num_decoded

    def frames(self, *_: object) -> list[DecodedFrame]:
        picture = av.VideoFrame(16, 16, "gray")
        return [DecodedFrame(index, time_s, picture) for index, time_s in enumerate(self.times_s)]


@pytest.mark.parametrize(
    ("num_decoded", "start_s", "code", "words"),
    [
        (0, None, RejectCode.UNREADABLE, "no frame can be decoded"),
        (0, 5.0, RejectCode.TOO_SHORT, "fewer than two frames"),
        (1, None, RejectCode.TOO_SHORT, "fewer than two frames"),
        (2, None, RejectCode.UNREADABLE, "no frame has a timestamp"),
        (2, 5.0, RejectCode.TOO_SHORT, "fewer than two frames"),
    ],
)
def test_a_file_without_frames_in_its_window_says_why(num_decoded, start_s, code, words):
    with pytest.raises(Rejected, match=words) as caught:
        list(frames_within(FakeVideo([], num_decoded), Limits(), start_s, None))  # type: ignore[arg-type]
    assert caught.value.code == code


def test_the_duration_of_a_window_counts_from_its_first_frame():
    limits = Limits(max_duration_s=2, window_s=2)
    within = FakeVideo([100.0, 101.0, 102.0])
    assert len(list(frames_within(within, limits, 100.0, None))) == 3  # type: ignore[arg-type]
    with pytest.raises(Rejected, match="2 s; limits"):
        list(frames_within(FakeVideo([100.0, 101.0, 102.1]), limits, 100.0, None))  # type: ignore[arg-type]


def test_motion_is_measured_at_most_twice_an_interval_and_after_every_gap():
    frames = FakeVideo([index / 30 for index in range(40)] + [10.0, 10.01]).frames()
    sampled = [sample.index for sample in _sampled(frames, min_interval=20)]
    steps = np.diff(sampled)
    assert sampled[0] == 0
    assert len(set(steps[:-1])) == 1
    assert steps[0] > 1
    assert 40 in sampled  # after a gap
    assert 41 not in sampled


def test_the_oldest_frames_are_encoded_until_the_rest_fits():
    frames = [HeldFrame(0, frame.time_s, 0, frame) for frame in decoded(pan(4))]
    size = frames[0].held_bytes
    _encode_oldest(frames, StoredImage(), 2 * size)
    assert [frame.held_bytes for frame in frames] == [0, 0, size, size]


def test_what_is_asked_for_is_measured_of_each_key_frame_and_pair(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(60))
    plain = frame_pairs(job(path))
    reply = frame_pairs(job(path, quality=("sharpness", "hashes")))
    assert all(frame.quality == FrameQuality() for frame in plain.frames)
    assert all(pair.change_hash is None for pair in plain.pairs)
    for frame in reply.frames:
        assert (frame.quality.sharpness or 0) > 0
        assert len(frame.quality.hash or b"") == 16
        assert frame.quality.bars is None
    assert all(len(pair.change_hash or b"") == 16 for pair in reply.pairs)
    assert DecodeReply.model_validate_json(reply.model_dump_json()) == reply


def test_frames_that_are_encoded_early_are_measured_too(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(60))
    whole = frame_pairs(job(path, quality=("sharpness",)))
    with open_video(path) as video:
        chosen, _ = key_frames(
            video.frames(), KeyFrames(), StoredImage(), max_held_bytes=0, quality=("sharpness",)
        )
    assert [frame.quality for frame in chosen] == [frame.quality for frame in whole.frames]
