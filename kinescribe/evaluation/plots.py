"""Writes the plot of a result to a file. The only importer of matplotlib, which is imported when it draws."""

from __future__ import annotations

from pathlib import Path

from kinescribe.preconditions import require_matplotlib
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.rendering import HasFigure

CREATOR = "Kinescribe plot"
"""Written into each file, so that no other picture is overwritten."""
_FIELD = {".png": "Software", ".pdf": "Creator", ".svg": "Creator"}
"""The formats, and where each names the program that made the file."""


def require_plot_file(path: Path) -> None:
    """Raises ConfigError if no plot can be written to `path`, or if another file would be lost."""
    require_matplotlib("--plot")
    if path.suffix not in _FIELD:
        raise ConfigError(f"--plot {path}: unknown picture format {path.suffix!r}; use {', '.join(_FIELD)}")
    if path.is_dir():
        raise ConfigError(f"--plot {path}: this is a folder; name a file, e.g. {path / 'plot.png'}")
    if not path.parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no folder {path.parent}; make it first")
    if path.exists() and CREATOR.encode() not in path.read_bytes():
        raise ConfigError(
            f"--plot {path}: this file exists and Kinescribe did not draw it; name another file, or remove it"
        )


def write_plot(result: HasFigure, path: Path) -> None:
    """Draw the result into a file. A plot that Kinescribe drew there before is replaced."""
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained", dpi=150)
    result.draw(figure)
    figure.savefig(path, metadata={_FIELD[path.suffix]: CREATOR})
