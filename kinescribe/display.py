"""What the command line prints: results as JSON for machines, as a table for people.

Knows the fields of results, not how they come about.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import DataclassInstance

    from kinescribe.cluster.submission import SubmittedJob
    from kinescribe.demo import DemoResult
    from kinescribe.evaluation.aurora_scores import AuroraScores, Spread
    from kinescribe.evaluation.human_study_scores import CriterionScores, StudyScores
    from kinescribe.evaluation.label_accuracy import LabelScores, Rate
    from kinescribe.evaluation.preference import Preferences
    from kinescribe.evaluation.world import BestOfN, Mean, Score, WorldScores
    from kinescribe.models.catalog import KnownModel
    from kinescribe.schemas.estimate import Estimate, Offer, Plan
    from kinescribe.storage.audit import DatasetStatus
    from kinescribe.storage.estimate import Comparison

Units = tuple[tuple[float, str], ...]
DURATIONS: Units = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
SIZES: Units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
"""How much of the base unit each is, the largest first."""


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
def counted(things: str) -> Generator[Callable[[int, int], None]]:
    """A bar on stderr that is told how many are done of how many."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bars:
        bar = bars.add_task(things, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def warn(text: str) -> None:
    """Say on stderr what the user may want to know."""
    print(f"warning: {text}", file=sys.stderr)


def printable(text: object) -> str:
    """The text as a terminal may show it: names of files and words of models must not move its cursor.

    What is no printable character is escaped, line breaks and marks of direction too.
    """
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(text))


def print_jobs(jobs: Sequence[SubmittedJob], as_json: bool) -> None:
    """Print what became of each job."""
    if as_json:
        print(json.dumps([dataclasses.asdict(job) for job in jobs]))
        return
    width = max((len(job.submission_id) for job in jobs), default=0)
    for job in jobs:
        line = f"{job.submission_id:<{width}}  {job.status:<10}{job.started or '':<27}{job.command}"
        print(printable(line))


def print_result(result: DataclassInstance, as_json: bool) -> None:
    """Print a dataclass as one JSON object, or as lines of name and value."""
    values = dataclasses.asdict(result)
    if as_json:
        print(json.dumps(values))
        return
    for name, value in values.items():
        if isinstance(value, dict):
            _print_rows(name, [f"{key:<22}{count:>12,}" for key, count in value.items()])
        elif isinstance(value, list):
            _print_rows(name, value)
        else:
            print(f"{name:<24}{_text(value):>12}")


def print_lines(results: Iterable[DataclassInstance]) -> None:
    """Print each dataclass as a JSON object on a line of its own."""
    for result in results:
        print(json.dumps(dataclasses.asdict(result)))


def print_status(status: DatasetStatus, compared: Comparison | None, as_json: bool) -> None:
    """Print how far a run is, and where it was planned, what was expected of it by now."""
    if compared is None:
        print_result(status, as_json)
        return
    if as_json:
        print(json.dumps(dataclasses.asdict(status) | dataclasses.asdict(compared)))
        return
    print_result(status, as_json=False)
    planned = compared.planned
    done = 1 - status.pending / status.clips
    rows = [
        f"{'triplets':<12}{planned.triplets.expected:>12,}{planned.triplets.expected * done:>12,.0f}"
        f"{status.triplets:>12,}",
        _compared_row("storage", SIZES, planned.size_bytes, done, compared.size_bytes),
    ]
    for stage, seconds in compared.stage_s.items():
        rows.append(_compared_row(stage, DURATIONS, planned.stage_s[stage], done, seconds))
    print(f"{'planned':<14}{'in all':>12}{'by now':>12}{'is':>12}", *rows, sep="\n  ")


def _compared_row(name: str, units: Units, planned: float, done: float, actual: float) -> str:
    size, unit = _unit(max(planned, actual), units)
    numbers = "".join(f"{value / size:>12.3f}" for value in (planned, planned * done, actual))
    return f"{f'{name}, {unit}':<12}{numbers}"


def _unit(value: float, units: Units) -> tuple[float, str]:
    """The largest unit of which there is one, or the smallest there is."""
    return next((unit for unit in units if value >= unit[0]), units[-1])


def _measure(value: float, units: Units) -> str:
    size, unit = _unit(value, units)
    return f"{value / size:>12.3f} {unit}"


def print_plan(plan: Plan, as_json: bool) -> None:
    """Print what a run will give and take, and what machines for it cost."""
    if as_json:
        print(json.dumps(dataclasses.asdict(plan)))
        return
    _print_estimate(plan.estimate)
    here = _measure(3600 * plan.here_hours, DURATIONS)
    print(f"{'on this machine':<24}{here}, most of it to {plan.bottleneck}")
    if plan.offers:
        _print_offers(plan.offers)
    _print_rows("without an offer", [f"{name}: {why}" for name, why in plan.left_out.items()])


def _print_offers(offers: Sequence[Offer]) -> None:
    names = [printable(offer.machine) for offer in offers]
    width = max(20, *(len(name) + 2 for name in names))
    print(f"\n{'machine':<{width + 2}}{'':<11}{'number':>8}{'time':>14}{'cost':>12}  bottleneck")
    for name, offer in zip(names, offers, strict=True):
        size, unit = _unit(3600 * offer.hours, DURATIONS)
        print(
            f"  {name:<{width}}{'spot' if offer.spot else 'on demand':<11}{offer.count:>8,}"
            f"{3600 * offer.hours / size:>10.2f} {unit:<3}{offer.cost:>12,.2f}  {offer.bottleneck}"
        )


def _print_estimate(estimate: Estimate) -> None:
    triplets = estimate.triplets
    print(f"{'clips':<24}{estimate.clips:>12,}  of which {estimate.sampled:,} were labelled")
    print(f"{'triplets':<24}{triplets.expected:>12,}  {triplets.low:,} to {triplets.high:,} (95 %)")
    print(f"{'rejected clips':<24}{estimate.rejected:>12.1%}")
    print(f"{'storage':<24}{_measure(estimate.size_bytes, SIZES)}")
    for stage, seconds in estimate.stage_s.items():
        worker = "GPU" if stage == "label" and estimate.gpu else "core"
        print(f"{stage:<24}{_measure(seconds, DURATIONS)} of one {worker}")


def print_models(models: Sequence[KnownModel], as_json: bool) -> None:
    """Print what each model is, can do and can be trained with."""
    if as_json:
        print(json.dumps([dataclasses.asdict(model) for model in models]))
        return
    print(f"{'model':<18}{'can':<26}{'train':<12}{'codes':<8}where")
    for model in models:
        grid = "×".join(map(str, model.grid or ()))
        does, train = ", ".join(model.does), ", ".join(model.train)
        print(printable(f"{model.name:<18}{does:<26}{train:<12}{grid:<8}{model.where}"))


def print_imagined(record: Mapping[str, Any], out: Path, as_json: bool) -> None:
    """Print the record of an imagination that lies in `out`: of each step its best sample, and the sheet."""
    if as_json:
        print(json.dumps({"out": str(out), **record}))
        return
    for step in record["steps"]:
        chosen = f"sample {step['best']} of {record['num_samples']}, log p {step['scores'][step['best']]:.2f}"
        print(printable(f"{step['action']}: {chosen}, {out / step['image']}"))
    print(f"look at {out / record['sheet']}")


def print_scores(scores: LabelScores, as_json: bool, shown: Mapping[str, int] | None = None) -> None:
    """Print the accuracy of labels: by attribute, by verb, by likelihood, and what is mistaken for what.

    `shown` counts all pairs by what they truly show.
    """
    if as_json:
        print(json.dumps(dataclasses.asdict(scores) | ({"shown": shown} if shown else {})))
        return
    _print_rows(
        "pairs by what they show", [f"{what:<22}{count:>12,}" for what, count in (shown or {}).items()]
    )
    rates = {field.name: getattr(scores, field.name) for field in dataclasses.fields(scores)}
    deciles, confusion = rates.pop("by_decile"), rates.pop("confusion")
    by_verb, words = rates.pop("by_verb"), rates.pop("wording")
    _print_rates("accuracy", rates)
    values = {name: value for name, value in dataclasses.asdict(words).items() if value is not None}
    _print_rows("words", [f"{name:<22}{value:>12.3f}" for name, value in values.items()])
    _print_rates("exact, by verb", by_verb)
    names = (f"tenth {number}" for number in range(1, len(deciles) + 1))
    _print_rates("exact, from the least likely tenth on", dict(zip(names, deciles, strict=True)))
    mistakes = [
        f"{true:<10} taken for {said:<14}{count:>10,}"
        for true, row in confusion.items()
        for said, count in row.items()
        if said != true
    ]
    _print_rows("mistaken verbs", mistakes)


def print_world(scores: WorldScores, as_json: bool) -> None:
    """Print the judge's means by action: the model's, and beside it those of the copy and of the codec."""
    if as_json:
        print(json.dumps(dataclasses.asdict(scores)))
        return
    rows = scores.scores
    print(f"{'':<10}{'':>6}", *(f"{name:^30}" for name in rows), sep="  ")
    print(f"{'':<10}{'cases':>6}", *(f"{'ES':>5}{'ME':>7}{'judge':>10}{'L1':>8}" for _ in rows), sep="  ")
    for action in rows["model"]:
        cells = [scores_of[action] for scores_of in rows.values()]
        print(f"{action:<10}{cells[0].judge.num:>6,}", *map(_score_cell, cells), sep="  ")


def print_aurora(scores: AuroraScores, out: Path, as_json: bool) -> None:
    """Print the means by group, the model's beside the copy's, what does not count, and where all lies."""
    if as_json:
        print(json.dumps({"out": str(out), **dataclasses.asdict(scores)}))
        return
    groups = next(iter(scores.scores.values()))
    metrics = list(dict.fromkeys(name for rows in scores.scores.values() for name in rows["all"]))
    print(f"{'':<20}{'images':>6}", *(f"{metric:>16}" for metric in metrics))
    for group in groups:
        for row, by_group in scores.scores.items():
            cells = by_group[group]
            num = max(spread.num for spread in cells.values())
            print(f"{group:<13}{row:<7}{num:>6,}", *(_spread_text(cells.get(metric)) for metric in metrics))
    left_out = Counter(left.reason for left in scores.left_out)
    _print_rows("left out", [f"{count:>6,}  {reason}" for reason, count in left_out.items()])
    _print_rows(
        "replies of the judge without a score", [f"{n:>6,}  {w}" for w, n in scores.judge_failures.items()]
    )
    print(f"look at {out}")


def _spread_text(spread: Spread | None) -> str:
    """A mean and, over several runs, its deviation."""
    if spread is None:
        return f"{'-':>16}"
    deviation = "" if spread.std is None else f" ± {spread.std:.3f}"
    return f"{f'{spread.mean:.3f}{deviation}':>16}"


def print_best_of_n(result: BestOfN, as_json: bool) -> None:
    """Print the judge's mean for each N, as the dynamics model chooses and as the judge itself would."""
    if as_json:
        print(json.dumps(dataclasses.asdict(result)))
        return
    for name, means in result.judge.items():
        _print_rows(
            f"judge, {name} best of",
            [f"{count:<10}{_mean_text(mean)}  of {mean.num:,} cases" for count, mean in means.items()],
        )


def print_demo(result: DemoResult) -> None:
    """Print the loop in one table: labels, and the world model before and after its fine-tune."""
    labels = {"all labels": result.scores.exact, "the likelier half": result.chosen.exact}
    _print_rates("exact actions", labels)
    rows = [
        f"{name:<26}" + "".join(f"N = {count}: {_mean_text(mean)}    " for count, mean in judged.items())
        for name, judged in (
            ("before the fine-tune", result.before.judge["verified"]),
            ("after", result.after.judge["verified"]),
            ("after, if the judge chose", result.after.judge["oracle"]),
        )
    ]
    cases = next(iter(result.after.judge["verified"].values())).num
    _print_rows(f"world model, judged 0 to 10 in {cases} scenes (a copy of the source gets 0)", rows)


def print_preferences(result: Preferences, as_json: bool) -> None:
    """Print the share of triplets that are likelier than their false twin, by what is false."""
    if as_json:
        print(json.dumps(dataclasses.asdict(result)))
        return
    print(f"{'triplets':<24}{result.triplets:>12,}")
    _print_rates(f"found likelier ({result.task}) than with", result.likelier)


def print_study(scores: StudyScores, as_json: bool) -> None:
    """Print what people chose: by criterion each model's score, and each pair of models compared."""
    if as_json:
        print(json.dumps(dataclasses.asdict(scores)))
        return
    for name in ("raters", "questions", "unfinished"):
        print(f"{name:<24}{getattr(scores, name):>12,}")
    for criterion, result in scores.criteria.items():
        rows = [f"{model:<22}{_mean_text(mean):>16}" for model, mean in result.scores.items()]
        _print_rows(f"{criterion}, -1 to +1", rows + _study_rows(result))


def _study_rows(result: CriterionScores) -> list[str]:
    rows = [
        f"{one.first} over {one.second}: {one.wins.hits:,} of {one.wins.total:,}, ties {one.ties:,}, "
        f"p = {one.p_value:.3g}"
        for one in result.comparisons
    ]
    if result.judge:
        judge = result.judge
        rows.append(f"judge: rho = {judge.rho:.3f}, p = {judge.p_value:.3g}, {judge.num:,} outputs")
    return rows


def _score_cell(score: Score) -> str:
    return f"{score.editing:>5.2f}{score.minimal:>7.2f}{score.judge.mean:>10.2f}{score.l1:>8.3f}"


def _mean_text(mean: Mean) -> str:
    error = "" if mean.standard_error is None else f" ± {mean.standard_error:.2f}"
    return f"{mean.mean:>5.2f}{error}"


def _print_rates(title: str, rates: Mapping[str, Rate]) -> None:
    rows = [
        f"{name:<22}{rate.share:>12.3f}  {rate.hits:,} of {rate.total:,}"
        for name, rate in rates.items()
        if rate.total
    ]
    _print_rows(title, rows)


def _print_rows(title: str, rows: list[str]) -> None:
    if rows:
        print(f"{title}:", *map(printable, rows), sep="\n  ")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else printable(value)
