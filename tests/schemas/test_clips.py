import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinescribe.schemas.clips import Clip, ExtractedClip, FramePair, KeyFrame, stable_id
from kinescribe.schemas.outcomes import ClipOutcome, DropReason, Status

CLIP = Clip("id", "/a.mp4")
PAIR = FramePair(0, 1, 2.0)
FRAMES = (KeyFrame(0.0, b"a"), KeyFrame(1.0, b"b"))
DROPPED = ClipOutcome("id", Status.DROPPED, reason=DropReason.STATIC)


def test_an_id_is_the_same_in_every_version():
    assert stable_id("run", "a", "b") == "08f00f2c663246ffc8726f5e8b39c4cf"
    assert stable_id(1, None, 0.1) == "82d0b4226e5ba1d1be3cae69d207b19c"


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_an_id_tells_where_one_part_ends_and_the_next_begins(one: list[str], other: list[str]):
    assert (stable_id(*one) == stable_id(*other)) == (one == other)


def test_a_clip_ends_early_exactly_where_it_has_no_pairs():
    ExtractedClip(CLIP, FRAMES, (PAIR,))
    ExtractedClip(CLIP, outcome=DROPPED)
    with pytest.raises(AssertionError):
        ExtractedClip(CLIP, FRAMES)
    with pytest.raises(AssertionError):
        ExtractedClip(CLIP, FRAMES, (PAIR,), outcome=DROPPED)
