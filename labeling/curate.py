"""Chooses the best triplets of datasets, the same number of each class: Algorithm 1 of the paper (METHOD §2).

Reads the score columns of committed units and no image. Algorithm 1 can be folded: what it does not
choose among some rows, it does not choose among more. So rows come and go in parts, and no more than
those chosen so far, what could still displace them and one part are ever in memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from kinescribe.schemas.config import CurateConfig
from kinescribe.schemas.errors import DatasetError
from kinescribe.storage.run import read_plan_columns, read_runs
from kinescribe.storage.selection import SELECTION_SCHEMA, Selection, write_selection
from kinescribe.storage.shards import readable, scan, unit_ids, whole_units

ROWS_PER_PART = 1 << 18
REMEDIES = {
    "action_logprob": "their action was given, or a server wrote it that tells no likelihoods, so nothing "
    "says how good it is; train on that dataset as is",
    "action_contrast": "label into another folder with --scores likelihood,contrast, or leave out --score",
}


@dataclass(frozen=True, slots=True)
class Curated:
    """Rows seen, dropped by each filter, and chosen; `missing` is how many more were asked for.

    `per_class` says how many were chosen of the class with the fewest, of a median one, and of that
    with the most.
    """

    seen: int
    dropped: dict[str, int]
    chosen: int
    missing: int
    classes: int
    per_class: dict[str, int]


def curate(
    datasets: Sequence[str],
    out: str,
    config: CurateConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Curated:
    """Choose from the committed units of the datasets, and write the selection, in the order of choice.

    The result depends on the rows alone, not on the order of datasets or units. Raises DatasetError
    where two datasets share a clip, where a row lacks the score (its action was given, or its contrast
    wasn't asked for), where no row is left to choose, and where `out` is something else.
    """
    sources = _distinct(datasets)
    counts: Counter[str] = Counter()
    chosen = choose(_scored_parts(sources, config, counts, progress), config.stratify_by, config.top_k)
    seen = counts.pop("seen", 0)
    if chosen.is_empty():
        raise DatasetError(
            f"none of {seen:,} triplets is left to choose; loosen the filters, which dropped {dict(counts)}"
        )
    named = chosen.with_columns(pl.col("dataset").cast(pl.String), unit_id=unit_ids(chosen["object"]))
    rows = named.select(SELECTION_SCHEMA.names).to_arrow().cast(SELECTION_SCHEMA)
    write_selection(out, Selection(rows, config.model_dump(), tuple(sorted(sources))))
    sizes = chosen.group_by(config.stratify_by).len()["len"].sort()
    return Curated(
        seen=seen,
        dropped=dict(counts),
        chosen=len(chosen),
        missing=config.top_k - len(chosen),
        classes=len(sizes),
        per_class={"fewest": sizes[0], "median": sizes[len(sizes) // 2], "most": sizes[-1]},
    )


def choose(parts: Iterable[pl.DataFrame], by: str, top_k: int) -> pl.DataFrame:
    """Algorithm 1 over rows that come in parts, with fewer than 2 `top_k` of them and a part in memory."""
    pool: list[pl.DataFrame] = []
    bar: _Bar | None = None
    for part in parts:
        pool.append(_copied(part if bar is None else bar.passed(part)))
        if sum(map(len, pool)) >= 2 * top_k:
            chosen = round_robin(pl.concat(pool), by, top_k)
            bar, pool = _Bar(chosen, by), [_copied(chosen.drop("round"))]
    return round_robin(pl.concat(pool), by, top_k)


def _copied(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows on their own: polars keeps all strings of a table in memory for the few that are left."""
    return pl.DataFrame(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))


def round_robin(rows: pl.DataFrame, by: str, top_k: int) -> pl.DataFrame:
    """Algorithm 1: go round the classes, each turn taking the class's best row left, until there are `top_k`.

    Rows are best by score, then by id. The paper leaves the order of classes within a round open, which
    matters in the last one, if it stays incomplete: here the class with the best candidate comes first.
    Returns the rows in the order of choice, with the round as column `round`.
    """
    ranked = rows.sort(by, "score", "triplet_id", descending=[False, True, False]).with_columns(
        round=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over(by)
    )
    return ranked.sort("round", "score", "triplet_id", descending=[False, True, False]).head(
        min(top_k, len(ranked))
    )


class _Bar:
    """What a further row must score to displace one of those chosen, by class.

    A further row that is worse than its class's chosen rows comes in a round after theirs. So where the
    class has a row in the last round it cannot be chosen; where the class's last row is in the round
    before, it would have to beat the worst row of the last round; otherwise it may have any score.
    """

    def __init__(self, chosen: pl.DataFrame, by: str) -> None:
        last = chosen["round"][-1]
        worst = chosen["score"][-1]  # the order of choice ends with the worst row of the last round
        score, rounds = pl.col("score").min(), pl.col("round").max()
        in_last = pl.when(rounds == last).then(score)
        least = in_last.when(rounds == last - 1).then(pl.min_horizontal(score, worst)).otherwise(-math.inf)
        self.by = by
        self.known = chosen.group_by(by).agg(least=least)
        self.new = worst if last == 1 else -math.inf

    def passed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows that may still be chosen."""
        least = pl.col("least").fill_null(self.new)
        joined = rows.join(self.known, on=self.by, how="left", nulls_equal=True)
        return joined.filter(pl.col("score") >= least).drop("least")


def _distinct(datasets: Sequence[str]) -> dict[str, str]:
    """The datasets by the fingerprint of their run. Raises DatasetError where two have a clip in common."""
    sources = read_runs(datasets)
    if len(sources) > 1:
        _refuse_shared_clips(datasets)
    return sources


def _refuse_shared_clips(datasets: Sequence[str]) -> None:
    """Clips and not triplets, which follow from them, since the plans hold them and are small."""
    plans = [
        pl.DataFrame({"clip_id": pl.Series(read_plan_columns(dataset, ["clip_id"])["clip_id"])}).with_columns(
            dataset=index
        )
        for index, dataset in enumerate(datasets)
    ]
    shared = pl.concat(plans).unique().filter(pl.col("clip_id").is_duplicated()).sort("clip_id", "dataset")
    if len(shared):
        first, second = (datasets[index] for index in shared["dataset"][:2])
        raise DatasetError(
            f"{first} and {second} share clip {shared['clip_id'][0]}, so a triplet could be chosen twice; "
            "name one of them"
        )


def _scored_parts(
    sources: Mapping[str, str],
    config: CurateConfig,
    counts: Counter[str],
    progress: Callable[[int, int], None],
) -> Iterator[pl.DataFrame]:
    """The rows that pass the filters, with their score; counts those seen, and those dropped by each."""
    columns = {"triplet_id", "action_class", "action_logprob", "action_tokens", config.stratify_by}
    if config.score == "contrast":
        columns |= {"action_contrast"}
    if config.min_motion is not None or config.max_motion is not None:
        columns |= {"motion"}
    if config.duplicates == "drop":
        columns |= {"clip_id", "action"}
    scans = {fingerprint: scan(dataset, sorted(columns)) for fingerprint, dataset in sources.items()}
    done, total = 0, sum(len(rows.files) for rows in scans.values())
    fingerprints = pl.Enum(sorted(sources))
    for fingerprint, rows in scans.items():
        with readable(sources[fingerprint]):
            for part in whole_units(rows, ROWS_PER_PART):
                counts["seen"] += len(part)
                kept = _filtered(_scored(part, sources[fingerprint], config.score), config, counts)
                named = {"dataset": pl.lit(fingerprint, dtype=fingerprints)}
                yield kept.select(
                    *{"object", "triplet_id", "score", "action_class", config.stratify_by}, **named
                )
                done += part["object"].n_unique()
                progress(done, total)
    progress(total, total)  # units without rows came with no part


def _scored(rows: pl.DataFrame, dataset: str, score: str) -> pl.DataFrame:
    """The rows with their score. Raises DatasetError where one has none."""
    column = "action_contrast" if score == "contrast" else "action_logprob"
    total = pl.col(column).cast(pl.Float64)
    scored = rows.with_columns(score=total if score == "sum" else total / pl.col("action_tokens"))
    unknown = scored.filter(~pl.col("score").is_finite().fill_null(value=False))
    if len(unknown):
        raise DatasetError(
            f"{dataset} has triplets without {column}, first {unknown['triplet_id'][0]}: {REMEDIES[column]}"
        )
    return scored


def _filtered(rows: pl.DataFrame, config: CurateConfig, counts: Counter[str]) -> pl.DataFrame:
    """The rows that pass every filter; each row that does not is counted under the first that it fails."""
    for name, passes in _filters(config).items():
        kept = rows.filter(passes)
        counts[name] += len(rows) - len(kept)
        rows = kept
    return rows


def _filters(config: CurateConfig) -> dict[str, pl.Expr]:
    filters: dict[str, pl.Expr] = {}
    if config.min_score is not None:
        filters["min_score"] = pl.col("score") >= config.min_score
    if config.min_motion is not None:
        filters["min_motion"] = pl.col("motion") >= config.min_motion
    if config.max_motion is not None:
        filters["max_motion"] = pl.col("motion") <= config.max_motion
    if config.duplicates == "drop":
        best = pl.col("triplet_id").sort_by("score", "triplet_id", descending=[True, False]).first()
        filters["duplicates"] = pl.col("triplet_id") == best.over("clip_id", "action")
    return filters
