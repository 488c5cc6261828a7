import os
from pathlib import Path

import pytest

from kinescribe.media.decode import Header
from kinescribe.media.probe import check_file, check_header
from kinescribe.schemas.config import Limits
from kinescribe.schemas.outcomes import RejectCode, Rejected

LIMITS = Limits(max_pixels=100 * 100, max_duration_s=60, window_s=60)


def code_of_file(path: Path) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        check_file(path)
    return caught.value.code


def test_an_absent_file_is_missing(tmp_path: Path):
    assert code_of_file(tmp_path / "none.mp4") == RejectCode.MISSING


def test_a_pipe_is_not_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert code_of_file(tmp_path / "pipe.mp4") == RejectCode.UNREADABLE


def test_a_folder_and_an_empty_file_are_unreadable(tmp_path: Path):
    (tmp_path / "empty.mp4").touch()
    assert code_of_file(tmp_path) == RejectCode.UNREADABLE
    assert code_of_file(tmp_path / "empty.mp4") == RejectCode.UNREADABLE


@pytest.mark.parametrize(
    ("header", "start_s", "end_s"),
    [
        (Header(101, 100, 1.0), None, None),
        (Header(100, 100, 61.0), None, None),
        (Header(100, 100, 200.0), 100.0, None),
        (Header(100, 100, None), 0.0, 61.0),
    ],
)
def test_a_clip_beyond_a_limit_is_too_large(header: Header, start_s: float | None, end_s: float | None):
    with pytest.raises(Rejected) as caught:
        check_header(header, LIMITS, start_s, end_s)
    assert caught.value.code == RejectCode.TOO_LARGE


@pytest.mark.parametrize(
    ("header", "start_s", "end_s"),
    [
        (Header(100, 100, 60.0), None, None),
        (Header(100, 100, None), None, None),
        (Header(100, 100, 36_000.0), 7_200.0, 7_260.0),
    ],
)
def test_a_short_window_of_a_long_file_is_within_the_limits(
    header: Header, start_s: float | None, end_s: float | None
):
    check_header(header, LIMITS, start_s, end_s)
