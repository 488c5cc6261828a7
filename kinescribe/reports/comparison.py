"""Two datasets on one self-contained HTML page: how they differ, and what each says of the same pairs.

Pairs are the same if their ids are: the same clip at the same two times.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pyarrow.dataset as pads

from kinescribe.reports.distributions import Axis, Histogram, histogram, motion_axis, score_axis
from kinescribe.reports.gallery import Gallery, gallery, sampled, scores
from kinescribe.reports.page import render, require_page, write_page
from kinescribe.schemas.errors import ConfigError
from kinescribe.storage import uri
from kinescribe.storage.audit import DatasetStatus, status
from kinescribe.storage.dataset import Dataset, Source

NUM_CLASSES = 24
OTHER_CLIPS = "other clips, or other classes, times or order"
Axes = Callable[[pl.Series], Axis]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two datasets: its rows, and their `gallery.scores`."""

    name: str
    status: DatasetStatus
    identity: Mapping[str, Any]
    rows: pads.Dataset
    table: pl.DataFrame
    clips: Sequence[str]
    """The ids of all clips of its plan."""


def write_comparison(first: Source, second: Source, out: str, sample: int) -> None:
    """Write the page of both to `out`, with at most `sample` of the pairs whose actions differ.

    Raises ConfigError, also if both are the same dataset, DatasetError and StoreError.
    """
    require_page(out)
    given = [os.fspath(source) for source in (first, second) if not isinstance(source, Dataset)]
    if len(given) == 2 and _place(given[0]) == _place(given[1]):
        raise ConfigError(f"{first} and {second} are the same dataset; name two datasets to compare")
    datasets = [Dataset.open(first), Dataset.open(second)]
    names = [dataset.name for dataset in datasets]
    if len(set(names)) == 1:
        names = [dataset.uri for dataset in datasets]
    sides = [_side(*pair) for pair in zip(datasets, names, strict=True)]
    common = _common(*sides)
    differing = common.filter(pl.col("action") != pl.col("action_other"))
    pairs = _gallery(sides[0], sampled(differing, sample))
    page = render(
        "comparison",
        look="report",
        sides=sides,
        counts=_counts(*sides),
        settings=_settings(*sides),
        histograms={
            "Score": _histograms(sides, "score", score_axis),
            "Motion": _histograms(sides, "motion", motion_axis),
        },
        classes=_classes(*sides),
        num_common=len(common),
        unshared=[(side, _unshared(side, other)) for side, other in (sides, sides[::-1])],
        num_differing=len(differing),
        gallery=pairs,
    )
    write_page(out, page)


def _place(name: str) -> str:
    """The full name of a dataset's folder, the same for every spelling of a path."""
    return str(uri.local_path(name).resolve()) if uri.is_local(name) else name.rstrip("/")


def _side(dataset: Dataset, name: str) -> Side:
    rows = dataset.scan()
    clips = dataset.plans[0].columns(["clip_id"])["clip_id"].to_pylist()
    return Side(name, status(dataset), dataset.run["identity"], rows, scores(rows), clips)


def _common(first: Side, second: Side) -> pl.DataFrame:
    """The pairs of the first that the second has too; the columns of the second are called `…_other`."""
    others = second.table.select("triplet_id", "action", "score", "action_tokens")
    return first.table.join(others, on="triplet_id", suffix="_other")


def _unshared(side: Side, other: Side) -> dict[str, int]:
    """Why pairs of one dataset are not in the other, with their number, the most frequent reason first."""
    alone = side.table.join(other.table, on="triplet_id", how="anti")
    known = pl.Series(other.clips, dtype=pl.String)
    has_pairs = pl.col("clip_id").is_in(other.table["clip_id"].implode())
    reason = (
        pl.when(has_pairs)
        .then(pl.lit("of other times in the same clips"))
        .when(pl.col("clip_id").is_in(known.implode()))
        .then(pl.lit("of clips that have no pairs there, or not yet"))
        .otherwise(pl.lit("of clips that are not among its clips"))
    )
    counts = alone.select(reason=reason).group_by("reason").len()
    return dict(counts.sort("len", "reason", descending=[True, False]).iter_rows())


def _gallery(side: Side, chosen: pl.DataFrame) -> Gallery:
    shown = gallery(side.rows, chosen)
    others = {
        "other": chosen["action_other"].to_list(),
        "otherScore": chosen["score_other"].round(4).to_list(),
        "otherTokens": chosen["action_tokens_other"].to_list(),
    }
    return replace(shown, pairs={**shown.pairs, **others})


def _counts(first: Side, second: Side) -> list[tuple[str, int, int]]:
    """The counts of both; drops and rejects also by reason."""
    names = ("clips", "kept", "dropped", "rejected", "pending", "triplets")
    reasons = sorted(first.status.reasons.keys() | second.status.reasons.keys())
    return [(name, getattr(first.status, name), getattr(second.status, name)) for name in names] + [
        (reason, first.status.reasons.get(reason, 0), second.status.reasons.get(reason, 0))
        for reason in reasons
    ]


def _settings(first: Side, second: Side) -> list[tuple[str, Any, Any]]:
    """Configuration, models and clips that differ; of the clips only a digest is known."""
    keys = sorted(first.identity.keys() | second.identity.keys())
    rows = ((key, first.identity.get(key), second.identity.get(key)) for key in keys)
    return [
        ("clips", "these", OTHER_CLIPS) if key == "plan" else (key, value, other)
        for key, value, other in rows
        if value != other
    ]


def _histograms(sides: Sequence[Side], column: str, axis_of: Axes) -> list[Histogram | None]:
    """The histograms of both, on the same axis."""
    shared = axis_of(pl.concat([side.table[column] for side in sides]))
    return [histogram(side.table[column], shared) for side in sides]


def _classes(first: Side, second: Side) -> list[dict[str, Any]]:
    """Number of triplets and medians of both: of the most frequent classes, then of triplets without one."""
    joined = _medians(first).join(
        _medians(second), on="action_class", how="full", coalesce=True, suffix="_other", nulls_equal=True
    )
    total = pl.col("len").fill_null(0) + pl.col("len_other").fill_null(0)
    ordered = joined.sort(total, "action_class", descending=[True, False])
    is_class = pl.col("action_class").is_not_null()
    classes = ordered.filter(is_class).head(NUM_CLASSES)
    return [*classes.to_dicts(), *ordered.filter(~is_class).to_dicts()] if len(classes) else []


def _medians(side: Side) -> pl.DataFrame:
    return side.table.group_by("action_class").agg(pl.len(), pl.col("score", "motion").median())
