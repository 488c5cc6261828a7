"""How far a run is, on a terminal or in a log; fed with the receipts of committed units.

Knows nothing of Ray. Writes to stderr, as stdout is for results.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from kinescribe.schemas.outcomes import Receipt

LINE_INTERVAL_S = 5.0
RESUME = "stopped; run the same command again to resume"
Clock = Callable[[], float]


class Progress(Protocol):
    """What a run tells of itself."""

    def start(self, total: int, done: int) -> None:
        """The run has `total` clips, `done` of which an earlier run committed."""
        ...

    def note(self, text: str) -> None:
        """Something the user may want to know, now."""
        ...

    def update(self, receipt: Receipt) -> None:
        """A unit was committed."""
        ...

    def stop(self) -> None:
        """No more units will come."""
        ...


def open_progress(stream: TextIO | None = None) -> Progress:
    """A live display where the stream (by default stderr) is a terminal, else a line every few seconds."""
    stream = stream or sys.stderr
    return LiveProgress(stream) if stream.isatty() else LineProgress(stream)


class LineProgress:
    """Plain lines, for logs."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        self.stream = stream
        self.clock = clock

    def start(self, total: int, done: int) -> None:
        self.total, self.done, self.sum = total, done, Receipt()
        self.started = self.printed = self.clock()
        self.note(f"{done}/{total} clips done before")

    def note(self, text: str) -> None:
        print(text, file=self.stream, flush=True)
        self.printed = self.clock()

    def update(self, receipt: Receipt) -> None:
        self.sum += receipt
        if self.clock() - self.printed >= LINE_INTERVAL_S:
            self.note(self._line())

    def stop(self) -> None:
        self.note(self._line())

    def _line(self) -> str:
        clips, elapsed_s = self.sum.clips, self.clock() - self.started
        parts = [
            f"{self.done + clips}/{self.total} clips",
            f"{self.sum.triplets} pairs",
            f"{rate(self.sum.triplets, elapsed_s):.1f} pairs/s",
            rejects_text(self.sum.rejects),
        ]
        if left := self.total - self.done - clips:
            parts.append(f"{left * elapsed_s / clips:.0f} s left" if clips else f"{left} clips left")
        return ", ".join(parts)


class LiveProgress:
    """One line that is drawn again and again, for terminals."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.bar = Bar(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("clips · {task.description} ·"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(file=stream),
        )

    def start(self, total: int, done: int) -> None:
        self.sum, self.started = Receipt(), self.clock()
        self.task = self.bar.add_task("starting", total=total, completed=done)
        self.bar.start()

    def note(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False)

    def update(self, receipt: Receipt) -> None:
        self.sum += receipt
        pairs_per_s = rate(self.sum.triplets, self.clock() - self.started)
        text = f"{pairs_per_s:.1f} pairs/s · {rejects_text(self.sum.rejects)}"
        self.bar.update(self.task, advance=receipt.clips, description=text)

    def stop(self) -> None:
        self.bar.stop()


def rate(count: int, elapsed_s: float) -> float:
    """Things per second; 0 before any time has passed."""
    return count / elapsed_s if elapsed_s > 0 else 0.0


def rejects_text(rejects: Counter[str]) -> str:
    """`12 rejected (unreadable 9, timeout 3)`."""
    reasons = ", ".join(f"{reason} {count}" for reason, count in rejects.most_common())
    return f"{rejects.total()} rejected" + (f" ({reasons})" if reasons else "")
