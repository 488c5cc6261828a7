"""A dataset on one self-contained HTML page: how the run went, how every clip ended, and the pairs.

Reads a dataset through storage only, and only the images of the sample. Everything that came with the videos
(names, classes, messages) or from a model is escaped, and the page runs no script but its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, fields
from typing import Any

import pyarrow.compute as pc

from kinescribe.inference.contact_sheet import Step
from kinescribe.labeling.example_frames import first_and_last_frames
from kinescribe.reports.distributions import by_class, frequent_actions, frequent_words
from kinescribe.reports.gallery import gallery, sampled, scores, short
from kinescribe.reports.heatmap import data_uri, encoded, enlarged, thumbnail
from kinescribe.reports.page import render, require_page, write_page
from kinescribe.reports.quality import measures
from kinescribe.reports.timeline import timeline
from kinescribe.schemas.clips import Clip
from kinescribe.schemas.config import IngestConfig, LabelConfig
from kinescribe.schemas.outcomes import ClipOutcome
from kinescribe.schemas.version import VERSION
from kinescribe.storage.audit import outcomes, totals
from kinescribe.storage.dataset import Dataset, Source
from kinescribe.storage.run import Run, RunRecord

SAMPLE = 500
JOBS = (LabelConfig, IngestConfig)
MAX_EXAMPLE_BYTES, EXAMPLE_SIDE = 6 << 10, 160
NUM_EXAMPLES = 3
"""Clips shown for each reason."""


@dataclass(frozen=True, slots=True)
class EndedClip:
    """A clip that was dropped or rejected; its first and last frame as data URIs, if they were decoded."""

    video: str
    message: str
    frames: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Ending:
    """Clips that were dropped or rejected for one reason, with a few examples."""

    status: str
    reason: str
    num_clips: int
    examples: Sequence[EndedClip]


def write_report(
    source: Source,
    out: str,
    sample: int = SAMPLE,
    imagined: Sequence[Step] = (),
    decode_below: Sequence[str] | None = None,
) -> None:
    """Write the page of a dataset to `out`, with at most `sample` pairs, and with imagined steps if given.

    With `decode_below`, frames of a few dropped and rejected clips are decoded, if their videos are below
    these folders, or below the working folder if it is empty.

    Raises ConfigError, DatasetError and StoreError.
    """
    require_page(out)
    dataset = Dataset.open(source)
    write_page(out, _page(dataset, sample, imagined, decode_below))


def _page(dataset: Dataset, sample: int, imagined: Sequence[Step], decode_below: Sequence[str] | None) -> str:
    rows = dataset.scan()
    table = scores(rows)
    footers = list(dataset.footers())
    ends = list(outcomes(footers))
    return render(
        "report",
        name=dataset.name,
        status=totals(dataset, footers).status,
        timeline=timeline([footer for _, footer in footers]),
        endings=_endings(dataset, ends, decode_below),
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


def _endings(
    dataset: Dataset, ends: Iterable[ClipOutcome], decode_below: Sequence[str] | None
) -> list[Ending]:
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
    clips = _clips(dataset, {end.clip_id for ends in examples.values() for end in ends})
    frames = {} if decode_below is None else first_and_last_frames(clips.values(), decode_below)
    shown = {
        key: [
            EndedClip(short(clips[end.clip_id].uri), end.message, _pictures(frames.get(end.clip_id, ())))
            for end in ends
            if end.clip_id in clips
        ]
        for key, ends in examples.items()
    }
    ordered = sorted(counts, key=lambda key: (-counts[key], key))
    return [Ending(*key, counts[key], shown[key]) for key in ordered]


def _pictures(frames: Iterable[bytes]) -> list[str]:
    return [encoded(thumbnail(frame, MAX_EXAMPLE_BYTES, EXAMPLE_SIDE), "webp") for frame in frames]


def _clips(dataset: Dataset, clip_ids: Set[str]) -> dict[str, Clip]:
    """Some clips, by id."""
    if not clip_ids:
        return {}
    names = [field.name for field in fields(Clip)]
    rows = dataset.plans[0].columns(names).filter(pc.field("clip_id").isin(sorted(clip_ids)))
    return {row["clip_id"]: Clip(**row) for row in rows.to_pylist()}
