"""Chooses the best triplets of datasets, the same number of each class: Algorithm 1 of arXiv:2506.06006.

Reads the score columns of committed units and no image. Algorithm 1 can be folded: a row that it does not
choose among some rows, it does not choose among more. So rows are read in parts, and memory holds one part,
the rows chosen so far and the rows that could still displace them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from kinescribe.labeling.agreement import Agreement
from kinescribe.labeling.calibration import calibrate, min_score_for
from kinescribe.labeling.candidates import Candidates
from kinescribe.labeling.deduplicate import (
    COLUMNS,
    Deduplicated,
    deduplicate,
    groups_uri,
    require_groups,
    write_groups,
)
from kinescribe.labeling.ratings import Ratings, read_reviews
from kinescribe.labeling.scores import scored_parts
from kinescribe.schemas.clips import stable_id
from kinescribe.schemas.config import CurateConfig
from kinescribe.schemas.errors import ConfigError, DatasetError, InputError
from kinescribe.schemas.rendering import Progress
from kinescribe.storage.dataset import Dataset, Source, no_triplets, open_datasets
from kinescribe.storage.rows import unit_ids
from kinescribe.storage.selection import SELECTION_SCHEMA, Selection, require_selection, write_selection


@dataclass(frozen=True, slots=True)
class Curated:
    """Rows seen, dropped by each filter, and chosen; `missing` is how many more were asked for.

    `per_class` is how many were chosen of the class with the fewest, of the median class, and of the class
    with the most.
    """

    seen: int
    dropped: dict[str, int]
    chosen: int
    missing: int
    classes: int
    per_class: dict[str, int]
    duplicates: dict[str, int] = field(default_factory=dict)
    """With `duplicates="near"`, the number of groups, and of triplets in the largest one."""


def curate(
    datasets: Sequence[Source],
    out: str,
    config: CurateConfig,
    progress: Progress = lambda done, total: None,
    reviews: Sequence[str] = (),
    agreement: Agreement | None = None,
    ids: Sequence[str] | None = None,
) -> Curated:
    """Choose from the committed units of the datasets, and write the selection, in the order of choice.

    `reviews` are files that review pages exported: rows whose action raters found wrong are not chosen. With
    `agreement`, only rows of which a second dataset says the same are. With `ids`, only those of triplets.

    The result depends on the rows alone, not on the order of datasets or units. Raises DatasetError if two
    datasets share a clip, a row lacks the score (its action was given, or its contrast was not asked for), a
    dataset lacks a measure that is filtered by, no row is left to choose, or `out` is another file;
    InputError if a file is no review of these datasets.
    """
    sources = _distinct(datasets)
    ratings = _ratings(sources, config, reviews)
    _require_agreement(sources, config, agreement)
    options, fingerprints = _options(config, ratings, agreement, ids), tuple(sorted(sources))
    require_selection(out, options, fingerprints)
    candidates = Candidates(sources, config, ratings, agreement, ids)
    if config.min_precision is not None:
        lowest = _min_score(sources, config, ratings, candidates, progress)
        candidates.require_at_least("min_precision", lowest)
    counts: Counter[str] = Counter()
    parts = candidates.parts(counts, progress)
    found: Deduplicated | None = None
    if config.duplicates == "near":
        require_groups(groups_uri(out))
        found = deduplicate(candidates.parts(Counter(), progress, COLUMNS))
        parts = _kept(parts, found, counts)
    # Datasets whose clips were all dropped or rejected have no part.
    if (first := next(parts, None)) is None:
        raise no_triplets(list(sources.values()))
    chosen = choose(chain([first], parts), config.stratify_by, config.top_k)
    seen = counts.pop("seen")
    if chosen.is_empty():
        raise DatasetError(f"none of {seen:,} triplets passes the filters ({_listed(counts)}); loosen them")
    named = chosen.with_columns(unit_id=unit_ids(chosen["object"]))
    rows = named.select(SELECTION_SCHEMA.names).to_arrow().cast(SELECTION_SCHEMA)
    write_selection(out, Selection(rows, options, fingerprints))
    if found:
        write_groups(groups_uri(out), found.groups)
    sizes = chosen.group_by(config.stratify_by).len()["len"].sort()
    return Curated(
        seen=seen,
        dropped=dict(counts),
        chosen=len(chosen),
        missing=config.top_k - len(chosen),
        classes=len(sizes),
        per_class={"fewest": sizes[0], "median": sizes[len(sizes) // 2], "most": sizes[-1]},
        duplicates=found.counts if found else {},
    )


def _options(
    config: CurateConfig,
    ratings: Sequence[Ratings],
    agreement: Agreement | None,
    ids: Sequence[str] | None,
) -> dict[str, Any]:
    """What a selection records of how it was chosen; without what is new, the same as in earlier versions."""
    new = {name for name in ("min_precision", "min_agreement") if getattr(config, name) is None}
    options = config.model_dump(exclude=new)
    if ratings:
        options["review"] = sorted(of_dataset.digest for of_dataset in ratings)
    if agreement:
        options["agree"] = agreement.identity
    if ids is not None:
        options["ids"] = stable_id(*sorted(ids))
    return options


def _require_agreement(
    sources: Mapping[str, Dataset], config: CurateConfig, agreement: Agreement | None
) -> None:
    """Raises ConfigError if a second dataset is missing, or if it is one of the first."""
    if agreement and agreement.other.fingerprint in sources:
        raise ConfigError(
            f"agree {agreement.other} is one of the datasets that are chosen from; name one by another model"
        )
    if agreement is None and (config.score == "agreement" or config.min_agreement is not None):
        raise ConfigError(
            "score agreement and min_agreement compare with a second dataset; name it with --agree"
        )
    if config.score == "agreement" and config.min_precision is not None:
        raise ConfigError(
            "min_precision is an expectation by likelihood; leave it out, or choose another score"
        )


def _ratings(sources: Mapping[str, Dataset], config: CurateConfig, reviews: Sequence[str]) -> list[Ratings]:
    """The ratings of each dataset. Raises InputError if there are ratings of another one."""
    if config.min_precision is not None and not reviews:
        raise ConfigError("min_precision needs reviews, which say how often a score is right; give --review")
    ratings = read_reviews(reviews)
    if others := sorted(ratings.keys() - sources.keys()):
        raise InputError(
            f"a review is of the run {others[0]}, but none of the datasets is; name the dataset that its "
            "page was built of"
        )
    return list(ratings.values())


def _min_score(
    sources: Mapping[str, Dataset],
    config: CurateConfig,
    ratings: Sequence[Ratings],
    candidates: Candidates,
    progress: Progress,
) -> float:
    """The lowest score such that the rows from it on, of those that pass, have the expected precision."""
    assert config.min_precision is not None
    assert config.score != "agreement"
    rated = [
        of_dataset.rated(part).drop_nulls("score")
        for of_dataset in ratings
        for part in scored_parts(sources[of_dataset.dataset], config.score, progress)
    ]
    if not rated:
        raise no_triplets(list(sources.values()))
    known = pl.concat(rated)
    calibration = calibrate(known["score"].to_numpy(), known["is_right"].to_numpy())
    parts = candidates.parts(Counter(), progress)
    scores = np.concatenate([np.empty(0), *(part["score"].to_numpy() for part in parts)])
    return min_score_for(calibration, scores, config.min_precision)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} dropped {count:,}" for name, count in counts.items())


def choose(parts: Iterable[pl.DataFrame], by: str, top_k: int) -> pl.DataFrame:
    """Algorithm 1 over rows in parts, at least one; memory holds a part and 2 `top_k` rows."""
    pool: list[pl.DataFrame] = []
    bar: _Bar | None = None
    for part in parts:
        pool.append(_copied(part if bar is None else bar.passed(part)))
        if sum(map(len, pool)) >= 2 * top_k:
            chosen = round_robin(pl.concat(pool), by, top_k)
            bar, pool = _Bar(chosen, by), [_copied(chosen.drop("round"))]
    return round_robin(pl.concat(pool), by, top_k)


def _copied(rows: pl.DataFrame) -> pl.DataFrame:
    """A copy without the strings of filtered rows, which polars keeps in memory otherwise."""
    return pl.DataFrame(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))


def round_robin(rows: pl.DataFrame, by: str, top_k: int) -> pl.DataFrame:
    """Algorithm 1: in each round, take the best remaining row of each class, until there are `top_k`.

    Rows are ranked by score, then by id. The paper leaves the order of classes within a round open, which
    matters if the last round stays incomplete: here the class with the best candidate comes first. Returns
    the rows in the order of choice, with the round as column `round`.
    """
    ranked = rows.sort("score", "triplet_id", descending=[True, False]).with_columns(
        round=pl.int_range(1, pl.len() + 1).over(by)
    )
    return ranked.sort("round", maintain_order=True).head(min(top_k, len(ranked)))


class _Bar:
    """The score that a further row needs to displace a chosen one, by class.

    A further row that is worse than its class's chosen rows comes in a round after theirs. So if the class
    has a row in the last round, the row cannot be chosen; if the class's last row is in the round before, the
    row must beat the worst row of the last round; otherwise any score will do.
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


def _distinct(sources: Sequence[Source]) -> dict[str, Dataset]:
    """The datasets by the fingerprint of their run. Raises DatasetError if two have a clip in common."""
    datasets = open_datasets(sources)
    if len(datasets) > 1:
        _refuse_shared_clips(list(datasets.values()))
    return datasets


def _refuse_shared_clips(datasets: Sequence[Dataset]) -> None:
    """Compares clips, not triplets: shared clips mean shared triplets, and clips are in the small plans."""
    plans = [
        pl.DataFrame(pl.Series("clip_id", dataset.plans[0].columns(["clip_id"])["clip_id"])).with_columns(
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


def _kept(parts: Iterable[pl.DataFrame], found: Deduplicated, counts: Counter[str]) -> Iterator[pl.DataFrame]:
    """The rows of the parts without the near-duplicates that were found among them."""
    start = 0
    for part in parts:
        kept = part.filter(pl.Series(found.is_kept[start : start + len(part)]))
        counts["near_duplicates"] += len(part) - len(kept)
        start += len(part)
        yield kept
