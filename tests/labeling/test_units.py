import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinescribe.labeling.units import cut_windows, plan_units
from kinescribe.schemas.clips import Clip, stable_id

WHOLE = Clip("id", "/v.mp4", "jump", size_bytes=10)

names = st.lists(st.text(min_size=1, max_size=3), unique=True, max_size=30)


@given(names=names, size=st.integers(1, 8))
def test_every_clip_is_in_one_unit_in_order(names: list[str], size: int):
    clips = [Clip(name, name) for name in names]
    units = plan_units(clips, size, "run")
    assert [clip for unit in units for clip in unit.clips] == clips
    assert all(len(unit.clips) == size for unit in units[:-1])
    assert len(units) == math.ceil(len(clips) / size)
    assert len({unit.unit_id for unit in units}) == len(units)


@given(names=names, size=st.integers(1, 8))
def test_a_plan_depends_only_on_clips_and_run(names: list[str], size: int):
    clips = [Clip(name, name) for name in names]
    moved = [Clip(name, f"/elsewhere/{name}", "class", size_bytes=5) for name in names]
    ids = [unit.unit_id for unit in plan_units(clips, size, "run")]
    assert ids == [unit.unit_id for unit in plan_units(moved, size, "run")]
    assert not set(ids) & {unit.unit_id for unit in plan_units(clips, size, "another run")}


def test_a_units_id_is_the_same_in_every_version():
    (unit,) = plan_units([Clip("a", "a"), Clip("b", "b")], 16, "run")
    assert unit.unit_id == stable_id("run", "a", "b") == "08f00f2c663246ffc8726f5e8b39c4cf"


@given(
    duration_s=st.floats(0.1, 1e4),
    window_s=st.floats(1, 1e3),
    start_s=st.none() | st.floats(0, 1e3),
    length_s=st.none() | st.floats(0.1, 1e4),
)
def test_windows_cover_the_clip_and_nothing_else(
    duration_s: float, window_s: float, start_s: float | None, length_s: float | None
):
    end_s = None if length_s is None else (start_s or 0) + length_s
    clip = Clip("id", "/v.mp4", "jump", start_s, end_s)
    windows = cut_windows(clip, duration_s, window_s)
    assert (windows[0].start_s or 0) == (start_s or 0)
    assert windows[-1].end_s == end_s
    assert all(before.end_s == after.start_s for before, after in pairwise(windows))
    assert all((w.start_s or 0) < w.end_s for w in windows if w.end_s is not None)
    assert all(w.end_s - (w.start_s or 0) <= window_s * 1.000001 for w in windows[:-1] if w.end_s)
    assert len({window.clip_id for window in windows}) == len(windows)
    assert {(window.uri, window.action_class) for window in windows} == {("/v.mp4", "jump")}


@pytest.mark.parametrize("duration_s", [None, 59.0, 60.0])
def test_a_clip_that_fits_a_window_is_not_cut(duration_s: float | None):
    assert cut_windows(WHOLE, duration_s, 60.0) == [WHOLE]


def test_a_long_video_becomes_windows_of_the_given_length():
    windows = cut_windows(WHOLE, 130.0, 60.0)
    # The last one is open: a header that is a little short loses nothing.
    assert [(window.start_s, window.end_s) for window in windows] == [
        (0.0, 60.0),
        (60.0, 120.0),
        (120.0, None),
    ]


def test_a_long_window_of_a_manifest_is_cut():
    clip = Clip("id", "/v.mp4", None, 10.0, 100.0)
    spans = [(window.start_s, window.end_s) for window in cut_windows(clip, None, 60.0)]
    assert spans == [(10.0, 70.0), (70.0, 100.0)]


def test_a_clip_of_whole_windows_has_no_window_of_a_rounding_error():
    clip = Clip("id", "/v.mp4", None, 199.6, 349.6)
    assert len(cut_windows(clip, None, 30.0)) == 5


def test_a_windows_id_is_the_same_in_every_version():
    windows = cut_windows(WHOLE, 130.0, 60.0)
    expected = [stable_id("id", *span) for span in [(0.0, 60.0), (60.0, 120.0), (120.0, None)]]
    assert [window.clip_id for window in windows] == expected
    assert expected[0] == "1e32fce4ab473c4410029075f0443024"


def test_a_window_is_not_cut_beyond_the_files_end():
    clip = Clip("id", "/v.mp4", None, 0.0, 20_000.0)
    assert len(cut_windows(clip, 130.0, 60.0)) == 3
