"""Draws the rows of a dataset that people review: at random, the same number of each class, or the doubtful.

Reads the score columns and no image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import polars as pl

from kinescribe.labeling.curate import choose
from kinescribe.labeling.scores import scored_parts
from kinescribe.schemas.config import Draw
from kinescribe.schemas.errors import DatasetError, InputError
from kinescribe.schemas.rendering import Progress
from kinescribe.storage.dataset import Dataset, no_triplets
from kinescribe.storage.row_sample import row_key


def draw_rows(dataset: Dataset, num: int, draw: Draw, seed: int, progress: Progress) -> pl.DataFrame:
    """`triplet_id`, `clip_id` and `object` (the path of the unit) of `num` rows, or of all if they are fewer.

    `random`: each row is as likely as any other. `stratified`: classes take turns, so that each has the same
    number if it has that many; within a class it is random. `doubtful`: the rows with the lowest mean
    log-probability per token. They are in random order. The same seed draws the same rows.

    Raises DatasetError if there are no rows, or none with a likelihood that could be doubtful.
    """
    parts = _ranked_parts(dataset, draw, seed, progress)
    if (first := next(parts, None)) is None:
        raise no_triplets([dataset])
    chosen = choose(chain([first], parts), "stratum", num)
    if chosen.is_empty():
        raise DatasetError(
            f"{dataset} has no likelihoods, so none of its rows is more doubtful than another; draw at random"
        )
    ordered = chosen.with_columns(order=_order(chosen, seed)).sort("order", "triplet_id")
    return ordered.select("triplet_id", "clip_id", "object")


def find_rows(dataset: Dataset, ids: Sequence[str], progress: Progress) -> pl.DataFrame:
    """The same of the rows with these ids, in the order of the ids. Raises InputError if one is missing."""
    wanted = pl.DataFrame({"triplet_id": ids}).with_row_index("place")
    parts = [
        part.join(wanted, on="triplet_id") for part in scored_parts(dataset, "mean", progress, ["clip_id"])
    ]
    found = pl.concat(parts) if parts else wanted.clear()
    if len(found) < len(ids):
        lost = sorted(set(ids) - set(found["triplet_id"]))
        raise InputError(f"{dataset} lacks {len(lost):,} of the ids, first {lost[0]}; name their dataset")
    return found.sort("place").select("triplet_id", "clip_id", "object")


def _ranked_parts(dataset: Dataset, draw: Draw, seed: int, progress: Progress) -> Iterator[pl.DataFrame]:
    """The rows with a `score`, of which the highest are drawn, and the `stratum`; strata take turns."""
    stratum = pl.col("action_class") if draw == "stratified" else pl.lit(None, pl.String)
    for part in scored_parts(dataset, "mean", progress, ["clip_id"]):
        if draw == "doubtful":
            ranked = part.drop_nulls("score").with_columns(score=-pl.col("score"))
        else:
            ranked = part.with_columns(score=-_order(part, seed))
        yield ranked.with_columns(stratum=stratum)


def _order(rows: pl.DataFrame, seed: int) -> pl.Series:
    """A random number for each row."""
    keys = [float(row_key(triplet_id, seed)) for triplet_id in rows["triplet_id"]]
    return pl.Series(keys, dtype=pl.Float64)
