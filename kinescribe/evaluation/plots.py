"""Scores as pictures, each in one file; the only door to matplotlib, which is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kinescribe.evaluation.aurora_scores import AuroraScores
from kinescribe.evaluation.human_study_scores import StudyScores
from kinescribe.evaluation.label_accuracy import NO_SENTENCE, LabelScores, Rate
from kinescribe.evaluation.preference import Preferences
from kinescribe.evaluation.world import CODEC, COPY, MODEL, ORACLE, VERIFIED, BestOfN, WorldScores
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.estimate import Offer, Plan
from kinescribe.simulation.actions import VERBS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".pdf", ".svg")
_BLUE, _ORANGE, _GREY = "#2b6cb0", "#dd6b20", "#a0aec0"
_SHOWN = {
    MODEL: ("world model", _BLUE),
    COPY: ("copy of the source", _ORANGE),
    CODEC: ("truth through the codec", _GREY),
}


def require_format(path: Path) -> None:
    """Raises ConfigError where no plot can be written to `path`."""
    if path.suffix not in FORMATS:
        raise ConfigError(f"--plot {path}: no picture format {path.suffix!r}; end in {', '.join(FORMATS)}")
    if path.is_dir():
        raise ConfigError(f"--plot {path}: this is a folder; name a file, which may be in it")
    if not path.parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no folder {path.parent}; make it first")


def plot_labels(scores: LabelScores, path: Path) -> None:
    """Accuracy by tenth of likelihood, and which verbs are taken for which."""
    figure, (deciles, confusion) = _axes(2, width=11.0, height=4.6)
    shares = [rate.share for rate in scores.by_decile]
    deciles.bar(range(1, len(shares) + 1), shares, color=_BLUE)
    deciles.set(xlabel="tenth by likelihood, least likely first", ylabel="exact", ylim=(0, 1))
    deciles.set_xticks(range(1, len(shares) + 1))
    true = [verb for verb in VERBS if verb in scores.confusion]
    said = [*VERBS, NO_SENTENCE]
    counts = np.array([[scores.confusion[verb].get(name, 0) for name in said] for verb in true], float)
    shares_of_row = counts / counts.sum(1, keepdims=True)
    confusion.imshow(shares_of_row, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares_of_row):
        if share:
            colour = "white" if share > 0.6 else "black"
            confusion.text(column, row, f"{share:.2f}", ha="center", va="center", color=colour, fontsize=7)
    confusion.set_xticks(range(len(said)), said, rotation=60, ha="right", rotation_mode="anchor")
    confusion.set_yticks(range(len(true)), true)
    confusion.set(xlabel="verb that was said", ylabel="true verb")
    confusion.spines[:].set_visible(False)
    figure.savefig(path)


def plot_world(scores: WorldScores, path: Path) -> None:
    """The judge's mean by action for the model, the copy and the codec, with standard errors."""
    figure, (axes,) = _axes(1, width=10.0)
    groups = [name for name in ("all", "object", "camera", *VERBS) if name in scores.scores[MODEL]]
    width = 0.27
    for place, (row, (label, colour)) in enumerate(_SHOWN.items()):
        means = [scores.scores[row][group].judge for group in groups]
        bars = axes.bar(
            np.arange(len(groups)) + (place - 1) * width,
            [mean.mean for mean in means],
            width,
            yerr=[mean.standard_error or 0 for mean in means],
            error_kw={"elinewidth": 0.8},
            label=label,
            color=colour,
        )
        axes.bar_label(bars, fmt="%.1f", fontsize=6, padding=1)
    axes.set_xticks(range(len(groups)), groups)
    axes.set(ylabel="judge", ylim=(0, 11))
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.savefig(path)


def plot_best_of_n(result: BestOfN, path: Path) -> None:
    """The judge's mean by N, with standard errors."""
    figure, (axes,) = _axes(1, width=6.0)
    labels = {VERIFIED: ("best by the dynamics model", _BLUE), ORACLE: ("best by the judge", _GREY)}
    for row, (label, colour) in labels.items():
        means = result.judge[row]
        axes.errorbar(
            list(means),
            [mean.mean for mean in means.values()],
            [mean.standard_error or 0 for mean in means.values()],
            marker="o",
            capsize=3,
            label=label,
            color=colour,
        )
    counts = list(result.judge[VERIFIED])
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set(xlabel="samples", ylabel="judge")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(path)


def plot_preferences(result: Preferences, path: Path) -> None:
    """The share of triplets that are likelier than their false twin, with 95 % intervals, beside chance."""
    figure, (axes,) = _axes(1, width=7.0, height=2.8)
    rates = {way: rate for way, rate in result.likelier.items() if rate.total}
    shares = np.array([rate.share for rate in rates.values()])
    errors = np.abs(np.array([_interval(rate) for rate in rates.values()]).T - shares)
    axes.barh(range(len(rates)), shares, xerr=errors, color=_BLUE, error_kw={"elinewidth": 0.8})
    axes.axvline(0.5, color="black", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(rates)), [f"{way}  {rate.share:.3f}" for way, rate in rates.items()])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel=f"share of true triplets found likelier ({result.task})")
    figure.savefig(path)


def plot_aurora(scores: AuroraScores, path: Path) -> None:
    """Each metric by group for the model and the copy, with the deviation of runs."""
    rows = scores.scores
    metrics = list(dict.fromkeys(name for groups in rows.values() for name in groups["all"]))
    groups = list(rows[MODEL])
    figure, panels = _axes(len(metrics), width=4.5 * len(metrics))
    for axes, metric in zip(panels, metrics, strict=True):
        for row, shift in ((MODEL, 0.2), (COPY, -0.2)):
            label, colour = _SHOWN[row]
            shown = [
                (place, rows[row][name][metric])
                for place, name in enumerate(groups)
                if metric in rows[row][name]
            ]
            axes.barh(
                [len(groups) - place + shift for place, _ in shown],
                [spread.mean for _, spread in shown],
                0.4,
                xerr=[spread.std or 0 for _, spread in shown],
                error_kw={"elinewidth": 0.8},
                label=label,
                color=colour,
            )
        axes.set_yticks(range(len(groups), 0, -1), groups)
        axes.set(xlabel=metric)
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, ncols=2, loc="outside upper center")
    figure.savefig(path)


def plot_study(scores: StudyScores, path: Path) -> None:
    """People's scores by criterion and model, with standard errors."""
    figure, (axes,) = _axes(1, width=9.0)
    models = list(next(iter(scores.criteria.values())).scores)
    width = 0.8 / len(models)
    for place, model in enumerate(models):
        means = [result.scores[model] for result in scores.criteria.values()]
        axes.bar(
            np.arange(len(means)) + (place - (len(models) - 1) / 2) * width,
            [mean.mean for mean in means],
            width,
            yerr=[mean.standard_error or 0 for mean in means],
            error_kw={"elinewidth": 0.8},
            label=model,
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(scores.criteria)), list(scores.criteria))
    axes.set(ylabel="score by people", ylim=(-1, 1))
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.savefig(path)


def plot_plan(plan: Plan, path: Path) -> None:
    """The work of each stage and, where any would do, what machines of each kind would take and cost."""
    figure, (stages, *others) = _axes(2, width=10.0) if plan.offers else _axes(1, width=5.0)
    stage_s = plan.estimate.stage_s
    unit, unit_s = ("hours", 3600) if sum(stage_s.values()) >= 3600 else ("seconds", 1)
    bars = stages.bar(list(stage_s), [seconds / unit_s for seconds in stage_s.values()], color=_BLUE)
    stages.bar_label(bars, fmt="%.3g")
    stages.set(ylabel=f"{unit} of one core" + (", to label of one GPU" if plan.estimate.gpu else ""))
    for costs in others:
        _plot_offers(plan.offers, costs)
    figure.savefig(path)


def _plot_offers(offers: Sequence[Offer], costs: Axes) -> None:
    for offer in offers:
        colour, marker = (_ORANGE, "o") if offer.spot else (_BLUE, "s")
        costs.scatter(offer.hours, offer.cost, color=colour, marker=marker)
        name = f" {offer.count:,} {offer.machine}{', spot' if offer.spot else ''}"
        costs.annotate(name, (offer.hours, offer.cost), fontsize=8)
    costs.set(xlabel="hours until all is done", ylabel="cost")
    costs.set_xlim(0, 1.5 * max(offer.hours for offer in offers))  # room for the names
    costs.set_ylim(0, 1.1 * max(offer.cost for offer in offers) or 1.0)


def _interval(rate: Rate) -> tuple[float, float]:
    """Wilson's 95 % interval, which has a width at 0 and 1 too."""
    z = 1.96
    middle = (rate.hits + z * z / 2) / (rate.total + z * z)
    half = z * (rate.total * rate.share * (1 - rate.share) + z * z / 4) ** 0.5 / (rate.total + z * z)
    return middle - half, middle + half


def _axes(num: int, width: float, height: float = 4.0) -> tuple[Any, Sequence[Axes]]:
    """A figure and its panels, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=150)
    panels: Sequence[Axes] = figure.subplots(1, num, squeeze=False)[0]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels
