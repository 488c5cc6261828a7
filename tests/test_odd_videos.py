"""Extracts every kind of odd and hostile clip with the real extractor and its sandbox."""

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as Pillow

from kinescribe.labeling.extract import PairExtractor
from kinescribe.schemas.clips import Clip, KeyFrame
from kinescribe.schemas.config import KeyFrames, Limits, StoredImage
from tests.hostile_videos import ALL
from tests.odd_videos import KEPT, Odd
from tests.videos import Image, number_of


@pytest.fixture(scope="module")
def extractor() -> Iterator[PairExtractor]:
    one = PairExtractor(Limits(), KeyFrames(), StoredImage(format="png"))
    yield one
    one.close()


def sequential(path: Path, quarter_turns: int) -> list[tuple[float, Image]]:
    """All frames as PyAV decodes them one after another, turned upright, with their times."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        assert stream is not None
        start_s = (container.start_time or 0) / av.time_base
        return [
            (
                (frame.time or 0.0) - start_s,
                np.rot90(frame.to_ndarray(format="rgb24", interpolation="BICUBIC"), quarter_turns),
            )
            for frame in container.decode(stream)
        ]


def check_is_right(frame: KeyFrame, odd: Odd, expected: list[tuple[float, Image]]) -> None:
    """The frame is one of the video's, and shown when it should be."""
    image = np.asarray(Pillow.open(io.BytesIO(frame.image)).convert("RGB"))
    times_s = [time_s for time_s, one in expected if np.array_equal(one, image)]
    assert times_s or odd.is_interlaced
    if odd.time_of:
        number = number_of(np.rot90(image, -odd.quarter_turns))
        times_s = [odd.time_of(number)]
    assert frame.time_s is not None
    assert any(-0.002 <= frame.time_s - time_s <= odd.late_s + 0.002 for time_s in times_s)


@pytest.mark.parametrize("odd", ALL, ids=lambda odd: odd.name)
def test_each_odd_video_has_its_outcome_and_the_right_frames(
    tmp_path: Path, extractor: PairExtractor, odd: Odd
):
    path = odd.make(tmp_path)
    extracted = extractor.extract(Clip(odd.name, str(path)))
    outcome = extracted.outcome
    assert (outcome.reason if outcome else KEPT) == odd.end, outcome
    if extracted.frames:
        expected = sequential(path, odd.quarter_turns)
        for frame in extracted.frames:
            check_is_right(frame, odd, expected)


def test_there_are_many_kinds_and_each_has_its_name():
    assert len({odd.name for odd in ALL}) == len(ALL) > 60
