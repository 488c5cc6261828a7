import io

import numpy as np
import pytest
from PIL import Image

from kinescribe.labeling.encode import FrameEncoder
from kinescribe.models.dynamics import Failure
from kinescribe.schemas.clips import ExtractedClip, FramePair, KeyFrame
from kinescribe.schemas.dataset import QUALITY, triplet_schema
from tests.fake_clips import clip, extracted, image
from tests.tiny_vlm import tiny_vlm


def gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 32)).save(buffer, "gif")
    return buffer.getvalue()


class CountingCodec:
    """A codec that remembers how many images each call of the encoder had."""

    def __init__(self, codec) -> None:
        self.codec, self.calls = codec, []

    def __getattr__(self, name):
        return getattr(self.codec, name)

    def encode(self, pixels_B3HW):
        self.calls.append(len(pixels_B3HW))
        return self.codec.encode(pixels_B3HW)


@pytest.fixture
def codec():
    return CountingCodec(tiny_vlm().codec)


def edit(name: str, source: bytes, target: bytes) -> ExtractedClip:
    return ExtractedClip(
        clip(name), (KeyFrame(None, source), KeyFrame(None, target)), (FramePair(0, 1, 1.0),)
    )


def test_an_image_that_clips_share_is_encoded_once(codec):
    first, second, third = (image("chain", index) for index in range(3))
    failures: dict[str, Failure] = {}
    pairs = FrameEncoder(codec).encode([edit("a", first, second), edit("b", second, third)], failures)
    assert codec.calls == [3]
    np.testing.assert_array_equal(pairs[0].target.codes, pairs[1].source.codes)
    assert failures == {}


@pytest.mark.parametrize("bad", [b"none", gif()], ids=["no image", "a format that isn't stored"])
def test_a_bad_image_fails_exactly_the_clips_that_have_it(codec, bad: bytes):
    clips = [edit("a", image("a", 0), bad), edit("b", bad, image("b", 0)), extracted("c")]
    failures: dict[str, Failure] = {}
    pairs = FrameEncoder(codec).encode(clips, failures)
    assert set(failures) == {clip("a").clip_id, clip("b").clip_id}
    assert all("cannot identify image" in failure.message for failure in failures.values())
    assert {pair.extracted.clip.clip_id for pair in pairs} == {clip("c").clip_id}


def test_a_row_has_every_column_except_those_of_the_action(codec):
    encoder = FrameEncoder(codec)
    pairs = encoder.encode([extracted("a")], {})
    row = encoder.row(pairs[0])
    of_action = {"action", "action_logprob", "action_tokens", "action_contrast", "finish_reason"}
    assert {*row, *of_action} == set(triplet_schema(codec.id, codec.grid, [*QUALITY, "context_frames"]).names)
    assert row["motion"] == 2.5


def test_a_still_image_has_no_time_but_an_id(codec):
    encoder = FrameEncoder(codec)
    images = [image("chain", index) for index in range(3)]
    pairs = encoder.encode([edit("a", *images[:2]), edit("b", *images[1:])], {})
    rows = [encoder.row(pair) for pair in pairs]
    assert [row["source_time_s"] for row in rows] == [None, None]
    assert len({row["triplet_id"] for row in rows}) == 2
    assert Image.open(io.BytesIO(rows[0]["target"]["bytes"])).size == (40, 32)
