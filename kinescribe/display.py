"""Prints results: as JSON for programs, as tables for people.

Knows no result: each says itself how it is shown (`schemas/rendering.py`). Results go to stdout, progress and
warnings to stderr.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kinescribe.schemas.rendering import Table, field_tables, tables_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PIPE_WIDTH = 10_000
"""Columns of a pipe or a file, in which no line is folded."""
MAX_LINE = 4000
"""Characters of a line of an error message."""


@contextmanager
def stdout_for_results() -> Generator[None]:
    """Send to stderr what libraries and their child processes print while the block runs."""
    sys.stdout.flush()
    results = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(results, 1)
        os.close(results)


@contextmanager
def progress_bar(things: str) -> Generator[Callable[[int, int], None]]:
    """A bar on stderr, shown from the first report on. Yields a function of the number done and the total."""
    from rich.console import Console
    from rich.progress import Progress

    bars = Progress(console=Console(stderr=True))
    bar = bars.add_task(things, total=None)

    def report(done: int, total: int) -> None:
        bars.start()  # does nothing if it has started
        bars.update(bar, completed=done, total=total)

    try:
        yield report
    finally:
        if bars.live.is_started:
            bars.stop()


def warn(text: str) -> None:
    """Print a warning on stderr."""
    print(f"warning: {text}", file=sys.stderr)


def printable(text: object) -> str:
    """The text with every unprintable character escaped, line breaks and marks of direction too.

    File names and words of models could otherwise move the terminal's cursor.
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


def shorten(line: str) -> str:
    """The line without its middle if it is very long, as a name in a stranger's file can be."""
    half = MAX_LINE // 2
    return line if len(line) <= MAX_LINE else f"{line[:half]} … {line[-half:]}"


def print_result(result: DataclassInstance, as_json: bool, extra: Mapping[str, object] | None = None) -> None:
    """Print a result as one JSON object, or as tables. `extra` adds values that stand beside its fields."""
    if as_json:
        print(json.dumps(dataclasses.asdict(result) | dict(extra or {})))
    else:
        print_tables([*tables_of(result), *field_tables(extra or {})])


def print_list(results: Iterable[DataclassInstance]) -> None:
    """Print results as one JSON list."""
    print(json.dumps([dataclasses.asdict(result) for result in results]))


def print_lines(results: Iterable[DataclassInstance]) -> None:
    """Print each result as a JSON object on its own line."""
    for result in results:
        print(json.dumps(dataclasses.asdict(result)))


def print_tables(tables: Iterable[Table]) -> None:
    """Print tables that have rows, each below its title."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, color_system=None)
    for table in tables:
        if not table.rows:
            continue
        if table.title:
            print(f"{printable(table.title)}:")
        with console.capture() as capture:
            console.print(_rich_table(table))
        indent = "  " if table.title else ""
        for line in capture.get().splitlines():
            print((indent + line).rstrip())


def _rich_table(table: Table) -> object:
    from rich.table import Table as RichTable
    from rich.text import Text

    columns = table.columns or [""] * max(len(row) for row in table.rows)
    drawn = RichTable(box=None, show_header=bool(table.columns), pad_edge=False, padding=(0, 2, 0, 0))
    for place, heading in enumerate(columns):
        cells = [row[place] for row in table.rows if place < len(row) and row[place]]
        justify = "right" if place and cells and all(map(_is_number, cells)) else "left"
        drawn.add_column(heading, justify=justify, overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    return drawn


def _is_number(cell: str) -> bool:
    """Whether the cell is a number, a share, a mean with its error, or the dash of a missing number."""
    return re.fullmatch(r"-|nan|[-+−]?[\d.,]+%?( ± [\d.,]+)?", cell) is not None
