import io
from collections import Counter

import pytest

from kinescribe.cluster.progress import LineProgress, LiveProgress, open_progress
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


def test_a_log_gets_a_line_every_few_seconds(clock):
    stream = io.StringIO()
    progress = LineProgress(stream, clock)
    progress.start(total=40, done=0)
    for _ in range(10):
        clock.now += 1
        progress.update(Receipt(kept=1, triplets=4))
    assert len(lines(stream)) == 3
    assert lines(stream)[1] == "5/40 clips, 20 pairs, 4.0 pairs/s, 0 rejected, 35 s left"


def test_rejects_are_shown_by_reason(clock):
    stream = io.StringIO()
    progress = LineProgress(stream, clock)
    progress.start(total=4, done=0)
    clock.now += 5
    progress.update(Receipt(kept=1, rejected=3, triplets=5, rejects=Counter(timeout=1, unreadable=2)))
    assert lines(stream)[-1] == "4/4 clips, 5 pairs, 1.0 pairs/s, 3 rejected (unreadable 2, timeout 1)"


def test_what_was_done_before_counts_as_done_but_not_as_speed(clock):
    stream = io.StringIO()
    progress = LineProgress(stream, clock)
    progress.start(total=100, done=90)
    clock.now += 10
    progress.update(Receipt(kept=5, triplets=10))
    assert lines(stream)[-1] == "95/100 clips, 10 pairs, 1.0 pairs/s, 0 rejected, 10 s left"


def test_the_last_line_comes_at_the_end(clock):
    stream = io.StringIO()
    progress = LineProgress(stream, clock)
    progress.start(total=2, done=0)
    progress.update(Receipt(dropped=2))
    progress.stop()
    assert lines(stream)[-1].startswith("2/2 clips")


def test_a_terminal_gets_a_live_display(clock):
    terminal = Terminal()
    assert isinstance(open_progress(terminal), LiveProgress)
    progress = LiveProgress(terminal, clock)
    progress.start(total=10, done=2)
    clock.now += 2
    progress.update(Receipt(kept=3, rejected=1, triplets=9, rejects=Counter(timeout=1)))
    progress.stop()
    shown = terminal.getvalue()
    assert "6/10" in shown
    assert "4.5 pairs/s" in shown
    assert "1 rejected (timeout 1)" in shown


def test_a_pipe_gets_lines():
    assert isinstance(open_progress(io.StringIO()), LineProgress)
