"""A dataset on one self-contained HTML page: sampled pairs, scores, and what became of every clip.

Reads a dataset through storage only, and of its images no more than the sample needs. Everything that
came with the videos (names, classes, messages) or from a model is escaped; the page runs no script.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from evaluation.contact_sheet import Step
from evaluation.heatmap import data_uri, enlarged, overlay, thumbnail
from evaluation.page import render, write_page
from schemas.errors import DatasetError
from storage.audit import outcomes, status
from storage.run import read_plan_columns, read_run
from storage.shards import committed_units, scan

NUM_BINS = 32
NUM_EXAMPLES = 3
"""Messages shown for each reason."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One triplet as the page shows it; images are data URIs.

    Given triplets have no likelihood, and no importance where no codec has seen them.
    """

    action: str
    action_class: str | None
    video: str
    source: str
    target: str
    heatmap: str | None
    source_time_s: float | None
    target_time_s: float | None
    logprob: float | None
    num_tokens: int | None
    motion: float | None

    @property
    def mean_logprob(self) -> float | None:
        """Per token of the action."""
        return None if self.logprob is None else self.logprob / max(self.num_tokens or 0, 1)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of the mean log-likelihood per token in bins of equal width."""

    edges: Sequence[float]
    counts: Sequence[int]
    median: float


@dataclass(frozen=True, slots=True)
class Ending:
    """Clips that were dropped or rejected for one reason, with a few messages as (video, message)."""

    status: str
    reason: str
    num_clips: int
    examples: Sequence[tuple[str, str]]


def write_report(dataset: str, out: Path, sample: int = 24, imagined: Sequence[Step] = ()) -> None:
    """Write the page of `dataset` to `out`, with at most `sample` pairs, and what was imagined.

    Raises DatasetError.
    """
    try:
        page = _page(dataset, sample, imagined)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{dataset} cannot be read: {error}; `check` says what is damaged") from error
    write_page(out, page)


def _page(dataset: str, sample: int, imagined: Sequence[Step]) -> str:
    rows = scan(dataset)
    return render(
        "report",
        name=PurePosixPath(dataset).name or dataset,
        status=status(dataset),
        run=read_run(dataset),
        pairs=_pairs(rows, sample),
        histogram=_histogram(rows),
        endings=_endings(dataset),
        imagined=[_imagined(step) for step in imagined],
    )


def _pairs(rows: pads.Dataset, sample: int) -> list[Pair]:
    """The pairs with the smallest ids of the first units: ids are hashes, so this is a fair sample."""
    units = list(rows.get_fragments())[:sample]
    ids = [unit.to_table(columns=["triplet_id"]) for unit in units]
    chosen = pa.array(sorted(pa.concat_tables(ids)["triplet_id"].to_pylist())[:sample], pa.string())
    grid = json.loads(rows.schema.metadata[b"kinescribe.codec"])["grid"]
    pairs = [
        _pair(row, grid)
        for unit in units
        for row in unit.to_table(filter=pc.field("triplet_id").isin(chosen)).to_pylist()
    ]
    return sorted(pairs, key=_surest_first)


def _surest_first(pair: Pair) -> float:
    return math.inf if pair.mean_logprob is None else -pair.mean_logprob


def _pair(row: Mapping[str, Any], grid: tuple[int, int]) -> Pair:
    target = thumbnail(row["target"]["bytes"])
    return Pair(
        action=row["action"],
        action_class=row["action_class"],
        video=_short(row["video"]),
        source=data_uri(thumbnail(row["source"]["bytes"])),
        target=data_uri(target),
        heatmap=None if row["importance"] is None else data_uri(overlay(target, row["importance"], grid)),
        source_time_s=row["source_time_s"],
        target_time_s=row["target_time_s"],
        logprob=row["action_logprob"],
        num_tokens=row["action_tokens"],
        motion=row["motion"],
    )


def _imagined(step: Step) -> dict[str, Any]:
    """The step with its images as data URIs, each sample with its score."""
    samples = [data_uri(enlarged(sample)) for sample in step.samples]
    scored = list(zip(samples, step.scores, strict=True))
    source = data_uri(enlarged(step.source))
    return {"action": step.action, "source": source, "samples": scored, "best": step.best}


def _histogram(rows: pads.Dataset) -> Histogram | None:
    """Of all rows that a model wrote; None where there are none."""
    written = pc.field("action_logprob").is_valid()
    scores = rows.to_table(columns=["action_logprob", "action_tokens"], filter=written)
    if not scores.num_rows:
        return None
    sums = scores["action_logprob"].to_numpy().astype(np.float64)
    means = sums / np.maximum(scores["action_tokens"].to_numpy(), 1)
    low = min(math.floor(means.min() * 10) / 10, -0.1)
    counts, edges = np.histogram(means, bins=NUM_BINS, range=(low, 0.0))
    return Histogram(edges.tolist(), counts.tolist(), float(np.median(means)))


def _endings(dataset: str) -> list[Ending]:
    """Reasons with their clips, most frequent first."""
    clips = read_plan_columns(dataset, ["clip_id", "uri"])
    videos = dict(zip(clips["clip_id"].to_pylist(), clips["uri"].to_pylist(), strict=True))
    counts: dict[tuple[str, str], int] = defaultdict(int)
    examples: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for end in outcomes(dataset, committed_units(dataset)):
        if end.reason is None:
            continue
        key = (str(end.status), str(end.reason))
        counts[key] += 1
        if len(examples[key]) < NUM_EXAMPLES and end.clip_id in videos:
            examples[key].append((_short(videos[end.clip_id]), end.message))
    ordered = sorted(counts, key=lambda key: (-counts[key], key))
    return [Ending(*key, counts[key], examples[key]) for key in ordered]


def _short(uri: str) -> str:
    """Folder and file name: the whole URI may carry a host, a password or a signature."""
    _, is_url, rest = uri.partition("://")
    path = rest.partition("/")[2].partition("?")[0] if is_url else uri
    return "/".join(PurePosixPath(path).parts[-2:])
