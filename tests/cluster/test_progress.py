import io
from collections import Counter

import pytest

from kinescribe.cluster.progress import LineProgress, LiveProgress, duration, open_progress
from kinescribe.schemas.outcomes import Receipt


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock():
    return Clock()


def lines(stream):
    return stream.getvalue().splitlines()


@pytest.fixture
def log(clock):
    """The progress of a run in a log, and the lines that it has written."""
    stream = io.StringIO()
    return LineProgress(stream, clock), lambda: lines(stream)


def test_a_log_gets_a_line_every_few_seconds(log, clock):
    progress, written = log
    progress.start(total=40, done=0)
    progress.workers_ready()
    for _ in range(10):
        clock.now += 1
        progress.update(Receipt(kept=1, triplets=4))
    assert written() == [
        "0/40 clips done before",
        "labelling",
        "5/40 clips, 20 pairs, 4.0 pairs/s, 0 rejected, 35 s left",
        "10/40 clips, 40 pairs, 4.0 pairs/s, 0 rejected, 30 s left",
    ]


def test_a_single_pair_is_not_several(log, clock):
    progress, written = log
    progress.start(total=2, done=0)
    progress.update(Receipt(kept=1, triplets=1))
    progress.stop()
    assert written()[-1] == "1/2 clips, 1 pair, 0 rejected, 1 clip left"


def test_rejects_are_shown_by_reason(log, clock):
    progress, written = log
    progress.start(total=4, done=0)
    progress.workers_ready()
    clock.now += 5
    progress.update(Receipt(kept=1, rejected=3, triplets=5, rejects=Counter(timeout=1, unreadable=2)))
    assert written()[-1] == "4/4 clips, 5 pairs, 1.0 pairs/s, 3 rejected (unreadable 2, timeout 1)"


def test_clips_of_an_earlier_run_count_as_done_but_not_as_speed(log, clock):
    progress, written = log
    progress.start(total=100, done=90)
    progress.workers_ready()
    clock.now += 10
    progress.update(Receipt(kept=5, triplets=10))
    assert written()[-1] == "95/100 clips, 10 pairs, 1.0 pairs/s, 0 rejected, 10 s left"


def test_loading_counts_neither_for_the_speed_nor_for_the_time_left(log, clock):
    progress, written = log
    progress.start(total=60, done=0)
    clock.now += 6000
    progress.workers_ready()
    clock.now += 5
    progress.update(Receipt(kept=5, triplets=10))
    assert written()[-1] == "5/60 clips, 10 pairs, 2.0 pairs/s, 0 rejected, 55 s left"


def test_before_any_speed_is_known_the_clips_that_are_left_are_shown(log, clock):
    progress, written = log
    progress.start(total=60, done=0)
    clock.now += 6000
    progress.update(Receipt(kept=5, triplets=10))
    progress.stop()
    assert written()[-1] == "5/60 clips, 10 pairs, 0 rejected, 55 clips left"


def test_a_long_time_left_is_in_minutes_or_hours(log, clock):
    progress, written = log
    progress.start(total=7201, done=0)
    progress.workers_ready()
    clock.now += 5
    progress.update(Receipt(kept=1))
    assert written()[-1].endswith("10.0 h left")
    clock.now += 5
    progress.update(Receipt(kept=5200))
    assert written()[-1].endswith("4 s left")
    assert duration(600) == "10 min"


def test_the_last_line_comes_at_the_end(log):
    progress, written = log
    progress.start(total=2, done=0)
    progress.update(Receipt(dropped=2))
    progress.stop()
    assert written()[-1].startswith("2/2 clips")


def test_a_terminal_gets_a_live_display(clock):
    terminal = Terminal()
    assert isinstance(open_progress(terminal), LiveProgress)
    progress = LiveProgress(terminal, clock)
    progress.start(total=10, done=2)
    progress.workers_ready()
    clock.now += 2
    progress.update(Receipt(kept=3, rejected=1, triplets=9, rejects=Counter(timeout=1)))
    progress.stop()
    shown = terminal.getvalue()
    assert "6/10" in shown
    assert "4.5 pairs/s" in shown
    assert "1 rejected (timeout 1)" in shown


def test_a_pipe_gets_lines():
    assert isinstance(open_progress(io.StringIO()), LineProgress)
