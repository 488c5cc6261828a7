"""Plots the results of `science.py`, a panel for each claim, and prints a table of means with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#a0aec0"
ROWS = {
    "base": "before",
    "supervised": "few labels",
    "video": "+ labelled video",
    "weights": "+ weights",
    "best of 8": "+ best of 8",
}
WAYS = ("random action", "random target", "swapped", "copied source")


def plot(seeds: Mapping[str, Any], path: Path) -> None:
    """Plot six panels from the results of each seed."""
    figure = Figure(figsize=(15, 8.5), layout="constrained", dpi=110)
    panels: Sequence[Axes] = list(figure.subplots(2, 3).flat)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    found = list(seeds.values())
    for draw, axes in zip((curves, ablation, copying, best_of_n, preference, deciles), panels, strict=True):
        draw(axes, found)
    figure.suptitle(f"means of {len(found)} seeds with 95 % intervals")
    figure.savefig(path)


def table(seeds: Mapping[str, Any]) -> str:
    """The ablation as a Markdown table; the gain is over the row above, with the same seeds."""
    lines = ["| | judge | gain | right action | no change |", "|---|---:|---:|---:|---:|"]
    above: np.ndarray | None = None
    for row, label in ROWS.items():
        figures = [seed["ablation"][row] for seed in seeds.values()]
        judge_S = np.array([one["judge"] for one in figures])
        more = "" if above is None else _plus_minus(judge_S - above, "+.2f")
        shares = (
            _plus_minus(np.array([one[name] for one in figures]), ".2f") for name in ("right", "copied")
        )
        lines.append(" | ".join([f"| {label}", _plus_minus(judge_S, ".2f"), more, *shares]) + " |")
        above = judge_S
    return "\n".join(lines)


def _plus_minus(values_S: np.ndarray, form: str) -> str:
    mean, half = interval(values_S[:, None])
    return f"{mean[0]:{form}} ± {half[0]:.2f}"


def interval(values: Sequence[Sequence[float]] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and half a 95 % interval over seeds (the first axis), by Student's t."""
    array = np.array(values, float)
    if len(array) < 2:
        return array.mean(0), np.zeros(array.shape[1:])
    half = stats.t.ppf(0.975, len(array) - 1) * stats.sem(array, axis=0)
    return array.mean(0), half


def curves(axes: Axes, found: Sequence[Any]) -> None:
    for task, label, colour in (
        ("dynamics", "dynamics model says it", BLUE),
        ("world", "world model draws it", ORANGE),
    ):
        steps = sorted(map(int, found[0]["curve"][task]))
        mean, half = interval([[one["curve"][task][str(step)] for step in steps] for one in found])
        axes.errorbar(steps, mean, half, marker="o", capsize=3, label=label, color=colour)
    axes.set(title="(a) learning from the same few labels", xlabel="step", ylabel="right action", ylim=(0, 1))
    axes.legend(frameon=False)


def bars(axes: Axes, found: Sequence[Any], name: str, fmt: str) -> None:
    mean, half = interval([[one["ablation"][row][name] for row in ROWS] for one in found])
    colours = [GREY, ORANGE, BLUE, BLUE, BLUE]
    drawn = axes.bar(range(len(ROWS)), mean, yerr=half, color=colours, error_kw={"elinewidth": 0.8})
    axes.bar_label(drawn, fmt=fmt, fontsize=8, padding=2)
    axes.set_xticks(range(len(ROWS)), list(ROWS.values()), rotation=20)


def ablation(axes: Axes, found: Sequence[Any]) -> None:
    bars(axes, found, "judge", "%.2f")
    axes.set(
        title="(b) what labelled video, weights and verification add", ylabel="judge, 0 to 10", ylim=(0, 10)
    )


def copying(axes: Axes, found: Sequence[Any]) -> None:
    bars(axes, found, "copied", "%.2f")
    axes.set(title="(c) copying", ylabel="share of images that show no change", ylim=(0, 1))


def best_of_n(axes: Axes, found: Sequence[Any]) -> None:
    counts = list(map(int, found[0]["best_of_n"]))
    for name, label, colour in (
        ("best_of_n", "best by the dynamics model", BLUE),
        ("oracle", "best by the judge", GREY),
    ):
        mean, half = interval([list(one[name].values()) for one in found])
        axes.errorbar(counts, mean, half, marker="o", capsize=3, label=label, color=colour)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set(title="(d) best of N", xlabel="samples", ylabel="judge, 0 to 10", ylim=(0, 10))
    axes.legend(frameon=False)


def preference(axes: Axes, found: Sequence[Any]) -> None:
    rows = [(task, when) for task in ("dynamics", "world") for when in ("before", "after")]
    for place, (task, when) in enumerate(rows):
        mean, half = interval([[one["preference"][task][when][way] for way in WAYS] for one in found])
        colour = BLUE if task == "dynamics" else ORANGE
        axes.bar(
            np.arange(len(WAYS)) + (place - 1.5) * 0.2,
            mean,
            0.2,
            yerr=half,
            label=f"{task}, {when}",
            color=colour,
            alpha=0.4 if when == "before" else 1,
            error_kw={"elinewidth": 0.8},
        )
    axes.axhline(0.5, color="black", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(WAYS)), [way.replace(" ", "\n") for way in WAYS])
    axes.set(title="(e) the true triplet is likelier than with …", ylabel="share", ylim=(0, 1.25))
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")


def deciles(axes: Axes, found: Sequence[Any]) -> None:
    mean, half = interval([one["labels"]["deciles"] for one in found])
    axes.bar(range(1, 11), mean, yerr=half, color=BLUE, error_kw={"elinewidth": 0.8})
    (every, chosen), _ = interval([[one["labels"]["exact"], one["labels"]["exact_chosen"]] for one in found])
    axes.axhline(every, color=GREY, label=f"all {every:.2f}")
    axes.axhline(chosen, color=ORANGE, label=f"likelier half {chosen:.2f}")
    axes.set_xticks(range(1, 11))
    axes.set(title="(f) labels of video", xlabel="tenth by likelihood, least likely first", ylabel="exact")
    axes.set_ylim(0, 1.2)
    axes.legend(frameon=False, ncols=2, loc="upper center")
