import itertools
from fractions import Fraction
from pathlib import Path

import pytest

from kinescribe.media.clocks import ContinuousClock, DecodingClock, PacketCount, PresentationClock
from kinescribe.media.decode import open_video
from kinescribe.schemas.outcomes import RejectCode, Rejected
from tests.videos import number_of, pan, write_video

PART = 60


def joined(path: Path, starts_s: list[float], **options: str) -> Path:
    """Parts of two seconds, each with a clock that starts at its time, as `cat` joins them."""
    data = b""
    for place, start_s in enumerate(starts_s):
        times_s = [start_s + index / 30 for index in range(PART)]
        frames = pan(PART, first=place * PART, seed=place)
        part = write_video(
            path.with_stem(f"part_{place}"),
            frames,
            times_s=times_s,
            codec="libx264" if path.suffix == ".ts" else "mpeg2video",
            options={"g": "1000", **options},
        )
        data += part.read_bytes()
    path.write_bytes(data)
    return path


def seen(path: Path, start_s: float | None = None, end_s: float | None = None) -> list[tuple[int, float]]:
    with open_video(path) as video:
        return [(number_of(frame.rgb(512)), frame.time_s) for frame in video.frames(start_s, end_s)]


@pytest.mark.parametrize("suffix", ["ts", "vob"])
@pytest.mark.parametrize(
    "starts_s",
    [[0.0, 2.0, 4.0], [0.0, 0.0, 0.0], [5.0, 1.0, 3.0], [0.0, 36_000.0, 36_002.0], [95_441.7, 95_443.7, 0.0]],
    ids=["segments", "restarts", "goes back", "jumps", "wraps"],
)
def test_every_frame_of_joined_files_is_used_once_and_time_goes_on(
    tmp_path: Path, suffix: str, starts_s: list[float]
):
    path = joined(tmp_path / f"joined.{suffix}", starts_s)
    frames = seen(path)
    assert [number for number, _ in frames] == list(range(3 * PART))
    steps = [later[1] - earlier[1] for earlier, later in itertools.pairwise(frames)]
    assert steps == pytest.approx([1 / 30] * len(steps), abs=0.04)
    assert frames[-1][1] == pytest.approx(3 * PART / 30, abs=0.15)
    with open_video(path) as video:
        assert video.header.duration_s is None
        assert video.count_duration() == pytest.approx(3 * PART / 30, abs=0.15)
    assert seen(path, 3.0, 5.0) == [(number, time_s) for number, time_s in frames if 3.0 <= time_s < 5.0]


def test_the_clock_of_joined_files_is_said_to_jump(tmp_path: Path):
    jumps = {}
    for starts_s in ([0.0, 2.2], [0.0, 0.0], [0.0, 50.0]):
        with open_video(joined(tmp_path / "joined.ts", starts_s)) as video:
            assert len(list(video.frames())) == 2 * PART
            jumps[starts_s[1]] = video.num_clock_jumps
    assert jumps == {2.2: 0, 0.0: 1, 50.0: 1}


def test_a_window_late_in_a_transport_stream_decodes_few_other_frames(tmp_path: Path):
    path = joined(tmp_path / "joined.ts", [0.0, 0.0, 0.0], g="15")
    with open_video(path) as video:
        assert len(list(video.frames(5.0, 5.5))) == 15
        assert video.num_decoded < 40


def test_packets_lost_between_key_frames_are_damage(tmp_path: Path):
    path = joined(tmp_path / "joined.ts", [0.0, 2.0], g="1000")
    data = path.read_bytes()
    middle = len(data) // 4 // 188 * 188
    path.write_bytes(data[:middle] + data[middle + 10 * 188 :])
    with pytest.raises(Rejected) as caught:
        seen(path)
    assert caught.value.code == RejectCode.UNREADABLE


class Times:
    """The times of a packet or a picture."""

    def __init__(
        self, pts: int | None, dts: int | None, duration: int = 1, is_keyframe: bool = False
    ) -> None:
        self.pts, self.dts, self.duration, self.is_keyframe = pts, dts, duration, is_keyframe


def corrected(*packets: Times) -> tuple[list[tuple[int | None, int | None]], int]:
    """The presentation and decoding times that packets get, in hundredths of a second, and the jumps."""
    clock = ContinuousClock(Fraction(1, 100))
    for packet in packets:
        clock.correct(packet)  # type: ignore[arg-type]
    return [(packet.pts, packet.dts) for packet in packets], clock.num_jumps


def test_a_clock_without_jumps_is_left_as_it_is():
    # On by ten seconds, back by a tenth, to a key frame, and to a frame that is shown ten seconds later.
    times = [(2, 0), (8, 4), (6, 4), (1004, 1004), (1000, 994), (1005, 1005), (2006, 1006)]
    packets = [Times(pts, dts, is_keyframe=place in (0, 5)) for place, (pts, dts) in enumerate(times)]
    assert corrected(*packets) == (times, 0)


@pytest.mark.parametrize(("dts", "is_keyframe"), [(1009, False), (-3, False), (3, True), (8, True)])
def test_what_comes_after_a_jump_follows_after_the_last_step(dts: int, is_keyframe: bool):
    packets = [
        Times(0, 0, is_keyframe=True),
        Times(4, 4),
        Times(8, 8),
        Times(8, 8),
        Times(dts, dts, is_keyframe=is_keyframe),
    ]
    after = [Times(None, dts + 4), Times(dts + 8, None), Times(-500, -500)]
    times, num_jumps = corrected(*packets, *after)
    assert times == [(0, 0), (4, 4), (8, 8), (8, 8), (12, 12), (16, 16), (20, None), (20, 20)]
    assert num_jumps == 2


def test_as_many_packets_come_before_a_frame_as_have_an_earlier_time():
    count = PacketCount()
    for pts in (0, 3, 1, 2):
        count.read(pts)
    assert [count.before(pts) for pts in (0, 1, 3, 3)] == [0, 1, 3, 3]
    count.read(5)
    assert [count.before(pts) for pts in (5, 9)] == [4, 5]


@pytest.mark.parametrize(
    ("times", "presented"),
    [
        ([(0, 0), (2, 1), (1, 2), (3, 3)], [0, 2, 2, 3]),  # presentation times went back once
        ([(0, 0), (1, 0), (2, 1), (1, 2)], [0, 1, 2, 1]),  # no more often than decoding times
        ([(None, 0), (5, None), (None, 2), (None, 3)], [0, 5, 2, 3]),
        ([(0, 0), (None, 1), (None, 2), (7, 3), (8, 3), (9, 3)], [0, 1, 2, 3, 3, 9]),
        ([(0, None), (0, None), (4, 1)], [0, 0, 1]),
    ],
)
def test_a_frame_is_presented_at_the_time_that_went_back_less_often(
    times: list[tuple[int | None, int | None]], presented: list[int]
):
    clock = PresentationClock()
    assert [clock.presented(Times(*time)) for time in times] == presented  # type: ignore[arg-type]


def test_a_clock_of_decoding_times_starts_at_zero_and_never_goes_back():
    clock = DecodingClock()
    pictures = [Times(None, *time) for time in ((None, 0), (3, 1), (2, 1), (None, 5), (None, 0))]
    assert [clock.presented(picture) for picture in pictures] == [0, 3, 4, 9, 10]  # type: ignore[arg-type]
