import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinescribe.media.context_frames import context_times, nearest_images
from kinescribe.media.decode_protocol import DecodeRequest
from kinescribe.media.frame_pairs import frame_pairs
from kinescribe.schemas.config import KeyFrames, Limits, StoredImage
from tests.media.test_frame_pairs import decoded
from tests.videos import number_of, pan, write_video

PNG = StoredImage(format="png")


def numbers(images: list[bytes]) -> list[int]:
    return [number_of(np.asarray(Image.open(io.BytesIO(image)))) for image in images]


def test_times_divide_the_time_between_evenly():
    assert context_times(1.0, 3.0, 3) == [1.5, 2.0, 2.5]
    assert context_times(1.0, 3.0, 0) == []


def test_the_nearest_frame_is_taken_and_of_two_the_earlier():
    frames = decoded(pan(10))
    times = [0.0, 2.4 / 30, 2.5 / 30, 2.6 / 30, 2.7 / 30, 7 / 30]
    assert numbers(nearest_images(frames, times, PNG)) == [0, 2, 2, 3, 3, 7]


def test_no_frame_after_the_last_time_is_read():
    frames = iter(decoded(pan(10)))
    assert numbers(nearest_images(frames, [2 / 30], PNG)) == [2]
    assert next(frames).index == 3


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
@pytest.mark.parametrize("start_s", [None, 1.0])
def test_each_pair_has_frames_between_its_two(suffix: str, start_s: float | None, tmp_path: Path):
    path = write_video(tmp_path / f"clip.{suffix}", pan(110))
    given = {"task": "pairs", "path": path, "limits": Limits(), "image": PNG, "start_s": start_s}
    request = DecodeRequest.model_validate(given | {"keyframes": KeyFrames(), "context_frames": 3})
    reply = frame_pairs(request)
    assert len(reply.pairs) >= 2
    assert str(path) in reply.opened
    for pair in reply.pairs:
        ends = numbers([reply.frames[pair.source].image, reply.frames[pair.target].image])
        between = numbers([*pair.context])
        apart = (ends[1] - ends[0]) / 4
        assert between == pytest.approx([ends[0] + apart * place for place in (1, 2, 3)], abs=1.01)
    without = frame_pairs(request.model_copy(update={"context_frames": 0}))
    assert [pair.context for pair in without.pairs] == [()] * len(reply.pairs)
    assert without.frames == reply.frames
