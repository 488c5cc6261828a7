"""The scores of a dataset's rows, by which triplets are chosen: how likely the model finds its own words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from kinescribe.schemas.config import Score
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.rendering import Progress
from kinescribe.storage.dataset import Dataset

ROWS_PER_PART = 1 << 18
REMEDIES = {
    "action_logprob": "their action was given, or a server wrote it that returns no likelihoods, so they "
    "have no score; train on that dataset as it is",
    "action_contrast": "label into another folder with --scores likelihood,contrast, or leave out --score",
}


def score_columns(score: Score) -> list[str]:
    """The columns that a score is computed of."""
    return ["action_contrast" if score == "contrast" else "action_logprob", "action_tokens"]


def with_score(rows: pl.DataFrame, score: Score) -> pl.DataFrame:
    """The rows with the column `score`, null where a row has none."""
    total = pl.col(score_columns(score)[0]).cast(pl.Float64)
    value = total if score == "sum" else total / pl.col("action_tokens")
    return rows.with_columns(score=pl.when(value.is_finite()).then(value))


def require_scores(rows: pl.DataFrame, dataset: Dataset, score: Score) -> None:
    """Raises DatasetError if one of the rows with a column `score` has none."""
    unknown = rows.filter(pl.col("score").is_null())
    if len(unknown):
        column = score_columns(score)[0]
        raise DatasetError(
            f"{dataset} has triplets without {column}, first {unknown['triplet_id'][0]}: {REMEDIES[column]}"
        )


def scored_parts(
    dataset: Dataset, score: Score, progress: Progress, columns: Sequence[str] = ()
) -> Iterator[pl.DataFrame]:
    """The rows in parts with `triplet_id`, `action_class`, `score` and further columns.

    `object` is the path of a row's unit. `progress` is called with the number of units read and their total.
    """
    rows = dataset.scan([*dict.fromkeys(["triplet_id", "action_class", *score_columns(score), *columns])])
    done, total = 0, len(rows.files)
    for part in rows.parts(ROWS_PER_PART):
        yield with_score(part, score)
        done += part["object"].n_unique()
        progress(done, total)
    progress(total, total)  # units without rows are in no part
