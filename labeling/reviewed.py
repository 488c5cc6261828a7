"""Writes the rows that raters kept or corrected as a supervised dataset, like those of `ingest`."""

from __future__ import annotations

import polars as pl

from kinescribe.labeling.materialize import write_rows
from kinescribe.labeling.ratings import Ratings
from kinescribe.labeling.scores import ROWS_PER_PART
from kinescribe.schemas.errors import InputError
from kinescribe.schemas.rendering import Progress
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.rows import unit_ids
from kinescribe.storage.selection import SELECTION_SCHEMA, Selection


def write_reviewed(dataset: Dataset, ratings: Ratings, out: str, progress: Progress) -> int:
    """Write the dataset `out`; run again to resume. Returns its number of rows.

    Raises InputError if raters kept and corrected no row; DatasetError if `out` is another dataset.
    """
    right = {row for row, agreed in ratings.agreed.items() if agreed.is_right}
    actions = {row: agreed.action for row, agreed in ratings.agreed.items() if agreed.action is not None}
    wanted = sorted(right | actions.keys())
    parts = dataset.scan(["triplet_id", "action_class"]).parts(ROWS_PER_PART)
    found = [part.filter(pl.col("triplet_id").is_in(wanted)) for part in parts]
    rows = pl.concat(found).sort("triplet_id") if found else pl.DataFrame()
    if rows.is_empty():
        raise InputError(
            f"no row of {dataset} was kept or corrected, so there is nothing to write; leave out --out"
        )
    named = rows.with_columns(
        dataset=pl.lit(dataset.fingerprint), unit_id=unit_ids(rows["object"]), score=pl.lit(0.0)
    )
    table = named.select(SELECTION_SCHEMA.names).to_arrow().cast(SELECTION_SCHEMA)
    selection = Selection(table, {"review": ratings.digest}, (dataset.fingerprint,))
    write_rows([dataset], selection, out, progress, actions)
    return len(rows)
