"""How results look to people: tables of plain text, and figures; and how progress is reported.

A result defines `tables()` beside its fields, and `draw(figure)` if it has a plot. The command line prints
the tables with `rich.table` and gives `draw` a matplotlib figure; neither library is imported here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Figure = Any
"""A `matplotlib.figure.Figure`; a type of its own would make matplotlib a dependency of every result."""
Progress = Callable[[int, int], None]
"""Called with the number done and the total."""
Units = tuple[tuple[float, str], ...]
DURATIONS: Units = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
SIZES: Units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
"""Each unit in seconds or bytes, the largest first."""
BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#a0aec0"


def counted(num: int, noun: str) -> str:
    """`1 pair`, `2,000 pairs`: a number and its noun, whose plural ends in s."""
    return f"{num:,} {noun}" if num == 1 else f"{num:,} {noun}s"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text. Columns that hold numbers are aligned right when printed."""

    rows: Sequence[Sequence[str]]
    title: str = ""
    columns: Sequence[str] = ()
    """Headings; empty for a table without."""


@runtime_checkable
class HasTables(Protocol):
    """A result that says how it is shown."""

    def tables(self) -> Iterable[Table]:
        """The tables that show the result, in order."""
        ...


class HasFigure(Protocol):
    """A result that has a plot."""

    def draw(self, figure: Figure) -> None:
        """Draw the result into an empty figure."""
        ...


def tables_of(result: DataclassInstance) -> Iterable[Table]:
    """The result's own tables; if it defines none, a row for each field."""
    return result.tables() if isinstance(result, HasTables) else field_tables(dataclasses.asdict(result))


def field_tables(values: Mapping[str, Any]) -> Iterable[Table]:
    """One row for each value; mappings and lists become tables of their own."""
    rows = list[tuple[str, str]]()
    nested = list[Table]()
    for name, value in values.items():
        if isinstance(value, Mapping):
            nested.append(Table([(str(key), text(count)) for key, count in value.items()], name))
        elif isinstance(value, list | tuple):
            nested.append(Table([(text(entry),) for entry in value], name))
        else:
            rows.append((name, text(value)))
    return [Table(rows), *nested]


def text(value: object) -> str:
    """A value as people read it: whole numbers with commas, yes or no for booleans."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def unit_of(value: float, units: Units) -> tuple[float, str]:
    """The largest unit that the value reaches, or the smallest unit."""
    return next((unit for unit in units if value >= unit[0]), units[-1])


def measure(value: float, units: Units) -> tuple[str, str]:
    """A number and its unit, e.g. `("1.500", "GB")`."""
    size, name = unit_of(value, units)
    return f"{value / size:.3f}", name


def panels(figure: Figure, num: int, width: float, height: float = 4.0) -> Sequence[Any]:
    """`num` axes side by side in a figure of this size in inches, without a frame on top and right."""
    figure.set_size_inches(width, height)
    axes: Sequence[Any] = figure.subplots(1, num, squeeze=False)[0]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    return axes
