"""A dataset on one self-contained HTML page: how the run went, how every clip ended, and the pairs.

Reads a dataset through storage only, and only the images of the sample. Everything that came with the videos
(names, classes, messages) or from a model is escaped, and the page runs no script but its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from kinescribe.inference.contact_sheet import Step
from kinescribe.reports.distributions import by_class, frequent_actions, frequent_words
from kinescribe.reports.gallery import gallery, sampled, scores, short
from kinescribe.reports.heatmap import data_uri, enlarged
from kinescribe.reports.page import render, require_page, write_page
from kinescribe.reports.quality import measures
from kinescribe.reports.timeline import timeline
from kinescribe.schemas.config import IngestConfig, LabelConfig
from kinescribe.schemas.outcomes import ClipOutcome
from kinescribe.schemas.version import VERSION
from kinescribe.storage.audit import outcomes, totals
from kinescribe.storage.dataset import Dataset, Source
from kinescribe.storage.run import Run, RunRecord

SAMPLE = 500
JOBS = (LabelConfig, IngestConfig)
NUM_EXAMPLES = 3
"""Clips shown for each reason."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Clips that were dropped or rejected for one reason, with a few examples: (video, message)."""

    status: str
    reason: str
    num_clips: int
    examples: Sequence[tuple[str, str]]


def write_report(source: Source, out: str, sample: int = SAMPLE, imagined: Sequence[Step] = ()) -> None:
    """Write the page of a dataset to `out`, with at most `sample` pairs, and with imagined steps if given.

    Raises ConfigError, DatasetError and StoreError.
    """
    require_page(out)
    dataset = Dataset.open(source)
    write_page(out, _page(dataset, sample, imagined))


def _page(dataset: Dataset, sample: int, imagined: Sequence[Step]) -> str:
    rows = dataset.scan()
    table = scores(rows)
    footers = list(dataset.footers())
    ends = list(outcomes(footers))
    return render(
        "report",
        name=dataset.name,
        status=totals(dataset, footers).status,
        timeline=timeline([footer for _, footer in footers]),
        endings=_endings(dataset, ends),
        pair_drops=_pair_drops(ends),
        notes=Counter(note for end in ends for note in end.notes).most_common(),
        classes=by_class(table),
        frequent={"Actions": frequent_actions(table["action"]), "Words": frequent_words(table["action"])},
        quality=measures(rows),
        gallery=gallery(rows, sampled(table, sample)),
        imagined=[_imagined(step) for step in imagined],
        run=dataset.run,
        defaults=_defaults(dataset.run),
    )


def _defaults(run: RunRecord) -> list[str]:
    """The keys with the default of `label` or of `ingest`; none if another version wrote the dataset."""
    if run["version"] != VERSION:
        return []
    known = [Run(VERSION, kind().model_dump(mode="json"), {}, "", (0, 0), "").identity for kind in JOBS]
    identity = run["identity"]
    best = max(known, key=lambda defaults: len(defaults.keys() & identity.keys()))
    chosen = (key for key in identity if key.startswith("config."))
    return [key for key in chosen if best.get(key, ...) == identity[key]]


def _imagined(step: Step) -> dict[str, Any]:
    """The step with its images as data URIs, and each sample with its score."""
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


def _endings(dataset: Dataset, ends: Iterable[ClipOutcome]) -> list[Ending]:
    """Reasons with their clips, most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], list[ClipOutcome]] = defaultdict(list)
    for end in ends:
        if end.reason is None:
            continue
        key = (str(end.status), str(end.reason))
        counts[key] += 1
        if len(examples[key]) < NUM_EXAMPLES:
            examples[key].append(end)
    videos = _videos(dataset, {end.clip_id for ends in examples.values() for end in ends})
    shown = {
        key: [(short(videos[end.clip_id]), end.message) for end in ends if end.clip_id in videos]
        for key, ends in examples.items()
    }
    ordered = sorted(counts, key=lambda key: (-counts[key], key))
    return [Ending(*key, counts[key], shown[key]) for key in ordered]


def _videos(dataset: Dataset, clip_ids: Set[str]) -> dict[str, str]:
    """The URIs of some clips, by id."""
    if not clip_ids:
        return {}
    clips = dataset.plans[0].columns(["clip_id", "uri"]).filter(pc.field("clip_id").isin(sorted(clip_ids)))
    return dict(zip(clips["clip_id"].to_pylist(), clips["uri"].to_pylist(), strict=True))
