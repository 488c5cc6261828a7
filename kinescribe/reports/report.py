"""A dataset on one self-contained HTML page: how the run went, what became of every clip, and the pairs.

Reads a dataset through storage only, and of its images no more than the sample needs. Everything that
came with the videos (names, classes, messages) or from a model is escaped, and the page runs no script but
its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from kinescribe.inference.contact_sheet import Step
from kinescribe.reports.distributions import by_class, frequent_actions, frequent_words
from kinescribe.reports.gallery import gallery, sampled, scores, short
from kinescribe.reports.heatmap import data_uri, enlarged
from kinescribe.reports.page import render, require_html, write_page
from kinescribe.reports.timeline import timeline
from kinescribe.schemas.outcomes import ClipOutcome
from kinescribe.storage.audit import footers, outcomes, status_of
from kinescribe.storage.run import read_plan_columns, read_run
from kinescribe.storage.shards import readable, scan

SAMPLE = 500
NUM_EXAMPLES = 3
"""Clips shown for each reason."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Clips that were dropped or rejected for one reason, with a few examples as (video, message)."""

    status: str
    reason: str
    num_clips: int
    examples: Sequence[tuple[str, str]]


def write_report(dataset: str, out: str, sample: int = SAMPLE, imagined: Sequence[Step] = ()) -> None:
    """Write the page of `dataset` to `out`, with at most `sample` pairs, and what was imagined.

    Raises ConfigError, DatasetError and StoreError.
    """
    require_html(out)
    with readable(dataset):
        page = _page(dataset, sample, imagined)
    write_page(out, page)


def title(dataset: str) -> str:
    """The name of the dataset's folder."""
    return PurePosixPath(dataset).name or dataset


def _page(dataset: str, sample: int, imagined: Sequence[Step]) -> str:
    rows = scan(dataset)
    table = scores(rows)
    found = list(footers(dataset))
    ends = list(outcomes(found))
    return render(
        "report",
        name=title(dataset),
        status=status_of(dataset, found),
        timeline=timeline([footer for _, footer in found]),
        endings=_endings(dataset, ends),
        pair_drops=_pair_drops(ends),
        classes=by_class(table),
        frequent={"Actions": frequent_actions(table["action"]), "Words": frequent_words(table["action"])},
        gallery=gallery(rows, sampled(table, sample)),
        imagined=[_imagined(step) for step in imagined],
        run=read_run(dataset),
    )


def _imagined(step: Step) -> dict[str, Any]:
    """The step with its images as data URIs, each sample with its score."""
    samples = [data_uri(enlarged(sample)) for sample in step.samples]
    scored = list(zip(samples, step.scores, strict=True))
    source = data_uri(enlarged(step.source))
    return {"action": step.action, "source": source, "samples": scored, "best": step.best}


def _pair_drops(ends: Iterable[ClipOutcome]) -> list[tuple[str, int]]:
    """Reasons for which pairs were dropped, most frequent first."""
    drops: Counter[str] = Counter()
    for end in ends:
        drops.update(end.pair_drops)
    return drops.most_common()


def _endings(dataset: str, ends: Iterable[ClipOutcome]) -> list[Ending]:
    """Reasons with their clips, most frequent first."""
    clips = read_plan_columns(dataset, ["clip_id", "uri"])
    videos = dict(zip(clips["clip_id"].to_pylist(), clips["uri"].to_pylist(), strict=True))
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for end in ends:
        if end.reason is None:
            continue
        key = (str(end.status), str(end.reason))
        counts[key] += 1
        if len(examples[key]) < NUM_EXAMPLES and end.clip_id in videos:
            examples[key].append((short(videos[end.clip_id]), end.message))
    ordered = sorted(counts, key=lambda key: (-counts[key], key))
    return [Ending(*key, counts[key], examples[key]) for key in ordered]
