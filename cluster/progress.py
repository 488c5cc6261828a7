"""Shows how far a labelling run is, on a terminal or in a log, from the receipts of committed units.

Knows nothing of Ray. Writes to stderr, because stdout is for results.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from kinescribe.schemas.outcomes import Receipt
from kinescribe.schemas.rendering import counted

LINE_INTERVAL_S = 5.0
RESUME = "stopped; run the same command again to resume"
Clock = Callable[[], float]


@contextmanager
def noting_resume(note: Callable[[str], object]) -> Generator[None]:
    """Note how to resume if the block is interrupted, by Ctrl-C or by SIGTERM (`kinescribe jobs stop`).

    Make it the innermost context, so that the note doesn't wait until Ray is shut down.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):  # SIGTERM raises SystemExit
        note(RESUME)
        raise


class LabelProgress:
    """Counts what a run commits. Shows nothing itself; subclasses do.

    Rates and the time left count from the moment at which the first model was loaded: loading takes as long
    for one clip as for a million.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.total, self.done, self.sum = 0, 0, Receipt()
        self.ready_at: float | None = None

    def start(self, total: int, done: int) -> None:
        """The run has `total` clips, `done` of which an earlier run committed."""
        self.total, self.done, self.sum, self.ready_at = total, done, Receipt(), None

    def note(self, text: str) -> None:
        """Tell the user something now."""

    def workers_ready(self) -> None:
        """The first model is loaded."""
        if self.ready_at is None:
            self.ready_at = self.clock()
            self.note("labelling")

    def update(self, receipt: Receipt) -> None:
        """A unit was committed."""
        self.workers_ready()
        self.sum += receipt

    def stop(self) -> None:
        """No more units will come."""

    @property
    def num_done(self) -> int:
        """Clips that this run or an earlier one committed."""
        return self.done + self.sum.clips

    def rates(self) -> str:
        """`20 pairs, 4.0 pairs/s, 0 rejected, 35 s left`, as far as it is known."""
        parts = [counted(self.sum.triplets, "pair")]
        elapsed_s = 0.0 if self.ready_at is None else self.clock() - self.ready_at
        if elapsed_s > 0:
            parts.append(f"{self.sum.triplets / elapsed_s:.1f} pairs/s")
        parts.append(rejects_text(self.sum.rejects))
        if num_left := self.total - self.num_done:
            is_known = self.sum.clips and elapsed_s > 0
            parts.append(
                f"{duration(num_left * elapsed_s / self.sum.clips)} left"
                if is_known
                else f"{counted(num_left, 'clip')} left"
            )
        return ", ".join(parts)


class LineProgress(LabelProgress):
    """Prints a line every few seconds, for logs."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self.stream = stream
        self.printed = clock()

    def start(self, total: int, done: int) -> None:
        super().start(total, done)
        self.note(f"{done}/{total} clips done before")

    def note(self, text: str) -> None:
        print(text, file=self.stream, flush=True)
        self.printed = self.clock()

    def update(self, receipt: Receipt) -> None:
        super().update(receipt)
        if self.clock() - self.printed >= LINE_INTERVAL_S:
            self._print()

    def stop(self) -> None:
        self._print()

    def _print(self) -> None:
        self.note(f"{self.num_done}/{self.total} clips, {self.rates()}")


class LiveProgress(LabelProgress):
    """Redraws one line, for terminals."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self.bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("clips, {task.description}"),
            console=Console(file=stream),
        )

    def start(self, total: int, done: int) -> None:
        super().start(total, done)
        self.task = self.bar.add_task("starting", total=total, completed=done)
        self.bar.start()

    def note(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False)

    def update(self, receipt: Receipt) -> None:
        super().update(receipt)
        self.bar.update(self.task, completed=self.num_done, description=self.rates())

    def stop(self) -> None:
        self.bar.stop()


def open_progress(stream: TextIO | None = None) -> LabelProgress:
    """A live line if the stream (by default stderr) is a terminal, else a line every few seconds."""
    chosen = sys.stderr if stream is None else stream
    return LiveProgress(chosen) if chosen.isatty() else LineProgress(chosen)


def rejects_text(rejects: Counter[str]) -> str:
    """`12 rejected (unreadable 9, timeout 3)`."""
    reasons = ", ".join(f"{reason} {count}" for reason, count in rejects.most_common())
    return f"{rejects.total()} rejected" + (f" ({reasons})" if reasons else "")


def duration(seconds: float) -> str:
    """`40 s`, `12 min` or `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
