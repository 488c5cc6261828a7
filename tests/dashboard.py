"""Draws what the Grafana dashboard asks while a run labels: its queries, their panels, but not Grafana.

    python -m tests.dashboard INPUT dashboard.png

A Ray head and a Prometheus of its own answer; Matplotlib draws. To see whether a panel shows what it says.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, StrMethodFormatter

from tests.prometheus import Prometheus, prometheus
from tests.ray_head import ray_head

ROOT = Path(__file__).parents[1]
PANELS: list[dict[str, Any]] = json.loads(
    (ROOT / "cluster" / "deploy" / "grafana-dashboard.json").read_text()
)["panels"]
GRAFANAS = {"$__rate_interval": "20s", "$__range": "1h"}
UNITS = {
    "short": StrMethodFormatter("{x:.3g}"),
    "bytes": EngFormatter(unit="B"),
    "percent": StrMethodFormatter("{x:.0f} %"),
    "percentunit": StrMethodFormatter("{x:.0%}"),
}
COLUMNS, INCHES = 24, 0.62
Lines = dict[str, tuple[list[float], list[float]]]
"""Seconds and values, by what the legend says."""


def legend(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), template)


def asked(server: Prometheus, panel: dict[str, Any]) -> Lines:
    lines: Lines = {}
    for target in panel["targets"]:
        query = target["expr"]
        for name, value in GRAFANAS.items():
            query = query.replace(name, value)
        for labels, points in server.points(query):
            name = legend(target["legendFormat"], labels)
            lines[name] = [at - server.started for at, _ in points], [value for _, value in points]
    return lines


def draw(axes: Axes, panel: dict[str, Any], lines: Lines, end_s: float) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    unit = UNITS[defaults["unit"]]
    axes.set_title(panel["title"], loc="left", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    if not lines or panel["type"] == "stat":
        axes.axis("off")
        last = [unit(values[-1]) for _, values in lines.values()]
        axes.text(0, 0.3, *(last or ["no data"]), fontsize=22 if last else 10, transform=axes.transAxes)
    elif panel["type"] == "bargauge":
        axes.barh(list(lines), [values[-1] for _, values in lines.values()], height=0.6, alpha=0.6)
        axes.set_yticks(range(len(lines)), list(lines), ha="left")
        axes.tick_params(axis="y", length=0, pad=-8)
        axes.xaxis.set_major_formatter(unit)
    else:
        stacked = "stacking" in defaults.get("custom", {})
        below: dict[float, float] = {}
        for name, (seconds, values) in lines.items():
            floor = [below.get(at, 0.0) for at in seconds] if stacked else [0.0] * len(seconds)
            tops = [low + value for low, value in zip(floor, values, strict=True)]
            if stacked:
                axes.fill_between(seconds, floor, tops, alpha=0.6, label=name, linewidth=0)
                below |= zip(seconds, tops, strict=True)
            else:
                axes.plot(seconds, tops, label=name)
        axes.set(xlim=(0, end_s), ylim=(0, defaults.get("max")))
        axes.yaxis.set_major_formatter(unit)
        axes.xaxis.set_major_formatter(EngFormatter(unit="s"))
        place = {"loc": "upper left", "bbox_to_anchor": (-0.03, -0.12), "ncols": 3, "columnspacing": 1}
        axes.legend(**place, handlelength=1, fontsize=8, frameon=False)


def picture(found: Sequence[tuple[dict[str, Any], Lines]], end_s: float) -> Figure:
    """Panels where Grafana has them."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel, _ in found)
    figure = Figure(figsize=(COLUMNS * INCHES, rows * INCHES * 0.6), dpi=90)
    for panel, lines in found:
        x, y, width, height = (panel["gridPos"][side] for side in "xywh")
        inner = ((x + 1) / COLUMNS, 1 - (y + height - 2) / rows, (width - 1.5) / COLUMNS, (height - 3) / rows)
        draw(figure.add_axes(inner), panel, lines, end_s)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input")
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    with ray_head(num_cpus=2) as head, tempfile.TemporaryDirectory() as folder:
        config = head.folder / "session_latest" / "metrics" / "prometheus" / "prometheus.yml"
        with prometheus(config, Path(folder)) as server:
            command = [sys.executable, "-m", "kinescribe", "label", arguments.input, "--out", f"{folder}/out"]
            environment = head.environment | {"RAY_ADDRESS": head.address}
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
            found = [(panel, asked(server, panel)) for panel in PANELS]
            picture(found, time.time() - server.started).savefig(arguments.picture)


if __name__ == "__main__":
    main()
