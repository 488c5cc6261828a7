"""The rows that are chosen from: those of datasets that pass the filters, with their scores.

Reads the columns that the filters need, in parts, and no image. Does not know how rows are chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from kinescribe.labeling.agreement import Agreement
from kinescribe.labeling.ratings import Ratings
from kinescribe.labeling.scores import ROWS_PER_PART, require_scores, score_columns, with_score
from kinescribe.schemas.config import CurateConfig
from kinescribe.schemas.dataset import HASHES, OPTIONAL, QUALITY
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.rendering import Progress
from kinescribe.storage.dataset import Dataset


class Candidates:
    """The rows of datasets, by the fingerprints of their runs, that pass the filters of a configuration.

    `ratings` leave out what raters found wrong, and `ids` leave out all others. Raises DatasetError if a
    dataset lacks a column that is needed.
    """

    def __init__(
        self,
        sources: Mapping[str, Dataset],
        config: CurateConfig,
        ratings: Sequence[Ratings] = (),
        agreement: Agreement | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        _require_measured(sources, config)
        self._sources = sources
        self._config = config
        self._agreement = agreement
        self._filters = _filters(config, ratings, agreement is not None, ids)

    def require_at_least(self, name: str, score: float) -> None:
        """Also drop the rows with a lower score, and count them under this name."""
        self._filters[name] = pl.col("score") >= score

    def parts(
        self, counts: Counter[str], progress: Progress, further: Sequence[str] = ()
    ) -> Iterator[pl.DataFrame]:
        """The rows that pass the filters, with their score; counts those seen, and those dropped by filter.

        `further` are columns that the rows have besides those that are chosen by.
        """
        config = self._config
        columns = _columns(config, self._agreement is not None) | set(further)
        scans = {name: dataset.scan(sorted(columns)) for name, dataset in self._sources.items()}
        done, total = 0, sum(len(rows.files) for rows in scans.values())
        fingerprints = pl.Enum(sorted(self._sources))
        for fingerprint, rows in scans.items():
            for part in rows.parts(ROWS_PER_PART):
                counts["seen"] += len(part)
                kept = self._filtered(self._scored(part, self._sources[fingerprint]), counts)
                named = {"dataset": pl.lit(fingerprint, dtype=fingerprints)}
                names = {"object", "triplet_id", "score", "action_class", config.stratify_by, *further}
                yield kept.select(*names, **named)
                done += part["object"].n_unique()
                progress(done, total)
        progress(total, total)  # units without rows are in no part

    def _scored(self, rows: pl.DataFrame, dataset: Dataset) -> pl.DataFrame:
        if self._agreement:
            rows = self._agreement.with_agreement(rows)
        if self._config.score == "agreement":
            return rows.with_columns(score=pl.col("agreement").fill_null(0))
        scored = with_score(rows, self._config.score)
        require_scores(scored, dataset, self._config.score)
        return scored

    def _filtered(self, rows: pl.DataFrame, counts: Counter[str]) -> pl.DataFrame:
        """The rows that pass every filter; each other row is counted under the first filter that it fails."""
        for name, passes in self._filters.items():
            kept = rows.filter(passes)
            counts[name] += len(rows) - len(kept)
            rows = kept
        return rows


def _columns(config: CurateConfig, agrees: bool) -> set[str]:
    """The columns that rows are scored, filtered and chosen by."""
    columns = {"triplet_id", "action_class", config.stratify_by}
    columns |= {column for column, _, bound, _ in _measures(config) if bound is not None}
    if config.score != "agreement":
        columns |= set(score_columns(config.score))
    if agrees:
        columns |= {"action"}
    if config.min_motion is not None or config.max_motion is not None:
        columns |= {"motion"}
    if config.duplicates == "drop":
        columns |= {"clip_id", "action"}
    return columns


def _filters(
    config: CurateConfig, ratings: Sequence[Ratings], agrees: bool, ids: Sequence[str] | None
) -> dict[str, pl.Expr]:
    filters: dict[str, pl.Expr] = {}
    if ids is not None:
        filters["ids"] = pl.col("triplet_id").is_in(list(ids))
    if ratings:
        left_out = [row for of_dataset in ratings for row in of_dataset.left_out]
        filters["review"] = ~pl.col("triplet_id").is_in(left_out)
    if agrees:
        least = config.min_agreement
        if least is None:
            least = 0.0 if config.score == "agreement" else 1.0
        filters["agreement"] = pl.col("agreement") >= least  # a row that the other dataset lacks has none
    if config.min_score is not None:
        filters["min_score"] = pl.col("score") >= config.min_score
    motion = [
        ("motion", "min_motion", config.min_motion, True),
        ("motion", "max_motion", config.max_motion, False),
    ]
    for column, name, bound, is_least in [*motion, *_measures(config)]:
        if bound is not None:
            filters[name] = pl.col(column) >= bound if is_least else pl.col(column) <= bound
    if config.duplicates == "drop":
        best = pl.col("triplet_id").sort_by("score", "triplet_id", descending=[True, False]).first()
        filters["duplicates"] = pl.col("triplet_id") == best.over("clip_id", "action")
    return filters


def _measures(config: CurateConfig) -> list[tuple[str, str, float | None, bool]]:
    """The column, name and value of each bound on a column that datasets may lack; is it a lower one?"""
    return [
        ("action_probability", "min_probability", config.min_probability, True),
        ("sharpness", "min_sharpness", config.min_sharpness, True),
        ("brightness", "min_brightness", config.min_brightness, True),
        ("brightness", "max_brightness", config.max_brightness, False),
        ("clipping", "max_clipping", config.max_clipping, False),
        ("bars", "max_bars", config.max_bars, False),
        ("text_share", "max_text", config.max_text, False),
    ]


def _require_measured(sources: Mapping[str, Dataset], config: CurateConfig) -> None:
    """Raises DatasetError if a dataset lacks a column that the configuration needs."""
    needed = {column: name for column, name, bound, _ in _measures(config) if bound is not None}
    if config.duplicates == "near":
        needed |= dict.fromkeys(HASHES, "duplicates near")
    for dataset in sources.values() if needed else ():
        have = dataset.scan().schema.names
        for name, fields in OPTIONAL.items():
            lacking = [field.name for field in fields if field.name in needed and field.name not in have]
            if lacking:
                wanted = f"{name!r} in quality" if name in QUALITY else f"annotation.{name}"
                raise DatasetError(
                    f"{dataset} has no {', '.join(lacking)}, which {needed[lacking[0]]} needs; label it into "
                    f"another folder with {wanted}, or leave out that option"
                )
