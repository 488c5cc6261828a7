import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from kinescribe.media.decode_protocol import DecodeReply, DecodeRequest
from kinescribe.media.segment_frames import segment_frames, still_frames
from kinescribe.schemas.config import DecodeLimits, StoredImage
from kinescribe.schemas.outcomes import DropReason, RejectCode, Rejected
from tests.videos import Image, number_of, pan, texture, write_video

PNG = StoredImage(format="png")


def segment(path: Path, start_s: float | None = None, end_s: float | None = None) -> DecodeRequest:
    return DecodeRequest(
        task="ends", path=path, start_s=start_s, end_s=end_s, limits=DecodeLimits(), image=PNG
    )


def stills(source: Path, target: Path, image: StoredImage = PNG) -> DecodeRequest:
    return DecodeRequest(task="stills", path=source, target=target, limits=DecodeLimits(), image=image)


def save(path: Path, image: Image) -> Path:
    Pillow.fromarray(image).save(path)
    return path


def images(reply: DecodeReply) -> list[Image]:
    return [np.asarray(Pillow.open(io.BytesIO(frame.image))) for frame in reply.frames]


def test_the_first_and_the_last_frame_of_the_window_are_taken(tmp_path: Path):
    reply = segment_frames(segment(write_video(tmp_path / "clip.mp4", pan(90)), 0.99, 2.01))
    assert [number_of(image) for image in images(reply)] == [30, 60]
    assert [frame.time_s for frame in reply.frames] == pytest.approx([1.0, 2.0])
    assert reply.pairs[0].motion > 1


def test_a_short_window_late_in_a_long_file_is_within_the_limits(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(120))
    request = segment(path, 2.0, 3.0).model_copy(update={"limits": DecodeLimits(max_duration_s=1.5)})
    assert [frame.time_s for frame in segment_frames(request).frames] == pytest.approx([2.0, 2 + 29 / 30])


def test_times_are_presentation_times(tmp_path: Path):
    times_s = [index / 30 + (2.0 if index >= 20 else 0.0) for index in range(40)]
    path = write_video(tmp_path / "clip.mp4", pan(40), times_s=times_s)
    reply = segment_frames(segment(path, 0.0, 3.0))
    assert [number_of(image) for image in images(reply)] == [0, 29]


def test_without_times_a_segment_is_the_whole_file(tmp_path: Path):
    reply = segment_frames(segment(write_video(tmp_path / "clip.mp4", pan(45))))
    assert [number_of(image) for image in images(reply)] == [0, 44]


@pytest.mark.parametrize(("start_s", "end_s"), [(0.5, 0.52), (7.0, 9.0)])
def test_a_segment_of_fewer_than_two_frames_is_too_short(tmp_path: Path, start_s: float, end_s: float):
    path = write_video(tmp_path / "clip.mp4", pan(30))
    with pytest.raises(Rejected) as caught:
        segment_frames(segment(path, start_s, end_s))
    assert caught.value.code == RejectCode.TOO_SHORT


def test_two_images_become_a_pair_without_times(tmp_path: Path):
    source, target = pan(20)[0], pan(20)[19]
    reply = still_frames(stills(save(tmp_path / "a.png", source), save(tmp_path / "b.png", target)))
    for image, given in zip(images(reply), (source, target), strict=True):
        np.testing.assert_array_equal(image, given)
    assert [frame.time_s for frame in reply.frames] == [None, None]
    assert reply.pairs[0].motion > 1


@pytest.mark.parametrize("size", [(80, 60), (500, 375), (300, 100)])
def test_the_target_is_resized_to_the_source(tmp_path: Path, size: tuple[int, int]):
    source = save(tmp_path / "a.png", texture(0, 160, 120))
    target = save(tmp_path / "b.png", texture(1, *size))
    assert [image.shape for image in images(still_frames(stills(source, target)))] == [(120, 160, 3)] * 2


def test_images_are_stored_like_key_frames(tmp_path: Path):
    source, target = (save(tmp_path / f"{seed}.png", texture(seed, 800, 400)) for seed in (0, 1))
    reply = still_frames(stills(source, target, StoredImage(max_side=200)))
    assert [image.shape for image in images(reply)] == [(100, 200, 3)] * 2
    assert all(frame.image.startswith(b"\xff\xd8") for frame in reply.frames)


def test_a_pair_of_the_same_image_is_dropped(tmp_path: Path):
    path = save(tmp_path / "a.png", texture(0))
    reply = still_frames(stills(path, path))
    assert (reply.pairs, reply.pair_drops) == ((), {DropReason.STATIC: 1})
    assert len(reply.frames) == 1


def test_a_reject_names_its_image(tmp_path: Path):
    good = save(tmp_path / "a.png", texture(0))
    for job, name in ((stills(tmp_path / "no", good), "input"), (stills(good, tmp_path / "no"), "output")):
        with pytest.raises(Rejected, match=f"missing: {name}: no such file"):
            still_frames(job)
