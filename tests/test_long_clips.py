"""Clips that turn out longer than a window are labelled in windows."""

from contextlib import closing
from pathlib import Path

import pytest

from kinescribe.labeling.extract import PairExtractor
from kinescribe.media.decode import open_video
from kinescribe.schemas.clips import Clip
from kinescribe.schemas.config import KeyFrames, Limits, StoredImage
from kinescribe.schemas.outcomes import Note, RejectCode
from tests.videos import pan, write_video


def clip(path: Path, **window: float) -> Clip:
    return Clip(path.stem, str(path), "panning", **window)


def in_windows(window_s: float, **limits: float) -> PairExtractor:
    return PairExtractor(Limits(window_s=window_s, **limits), KeyFrames(max_keyframes=2), StoredImage())


def test_a_clip_that_is_longer_than_it_said_is_decoded_in_windows(tmp_path: Path):
    path = write_video(tmp_path / "live.mkv", pan(200), muxer={"live": "1"})
    with open_video(path) as video:
        assert video.header.duration_s is None
    with closing(in_windows(2.0)) as windowed:
        found = windowed.extract(clip(path))
        assert windowed.duration_s(clip(path)) == pytest.approx(200 / 30, abs=0.05)
        parts = [windowed.extract(clip(path, start_s=start, end_s=start + 2.0)) for start in (0.0, 2.0, 4.0)]
    assert [(one.source, one.target) for one in found.pairs] == [(0, 1), (2, 3), (4, 5)]
    assert found.frames == sum((part.frames for part in parts), ())
    assert [one.motion for one in found.pairs] == [one.motion for part in parts for one in part.pairs]
    assert (found.notes, found.message) == ((), "")


def test_a_window_of_the_manifest_is_not_cut(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(150))
    with closing(in_windows(1.0)) as windowed:
        assert len(windowed.extract(clip(path, start_s=1.0, end_s=4.0)).frames) == 2
        assert len(windowed.extract(clip(path, start_s=1.0)).frames) == 8


def test_what_comes_before_damage_in_a_later_window_is_kept_and_the_rest_is_said_to_be_left_out(
    tmp_path: Path,
):
    path = write_video(tmp_path / "clip.mkv", pan(180), muxer={"live": "1"}, options={"g": "30"})
    data = bytearray(path.read_bytes())
    for place in range(len(data) * 3 // 4, len(data), 7):
        data[place] ^= 0xFF
    path.write_bytes(data)
    with closing(in_windows(2.0)) as windowed:
        found = windowed.extract(clip(path))
    assert len(found.pairs) >= 1
    assert found.notes == (Note.INCOMPLETE,)
    assert found.message.startswith(f"left out after {len(found.pairs)} windows: unreadable")
    with closing(in_windows(60.0)) as whole:
        assert whole.extract(clip(path)).outcome.reason == RejectCode.UNREADABLE


def test_a_clip_without_an_end_is_not_longer_than_the_limit(tmp_path: Path):
    path = write_video(tmp_path / "live.mkv", pan(200), muxer={"live": "1"})
    with closing(in_windows(1.0, max_duration_s=3.0)) as windowed:
        assert windowed.extract(clip(path)).outcome.reason == RejectCode.TOO_LARGE
