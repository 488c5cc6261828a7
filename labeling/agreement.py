"""How far a second dataset, which another model labelled, says the same of the same triplets.

Triplets are the same if their ids are: the same clip at the same two times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import polars as pl

from kinescribe.labeling.scores import ROWS_PER_PART
from kinescribe.storage.dataset import Dataset, no_triplets

Similarity = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""How similar each text is to the one at the same place in the other list, from 0 to 1."""


class Agreement:
    """The actions of `other` by triplet, and how they are compared, which `by` names."""

    def __init__(self, other: Dataset, by: str, similarity: Similarity) -> None:
        self.other = other
        self.by = by
        self._similarity = similarity

    @property
    def identity(self) -> dict[str, str]:
        """What a selection records."""
        return {"dataset": self.other.fingerprint, "by": self.by}

    def with_agreement(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with the column `agreement`, from 0 to 1; null if the other dataset lacks the triplet.

        Two texts are compared once, however many rows have them. Raises DatasetError if the other dataset has
        no rows.
        """
        joined = rows.with_columns(other_action=self._other_actions(rows["triplet_id"]))
        texts = joined.select("action", "other_action").drop_nulls().unique(maintain_order=True)
        values = self._similarity(texts["action"].to_list(), texts["other_action"].to_list())
        known = texts.with_columns(agreement=pl.Series(values, dtype=pl.Float64))
        found = joined.join(known, on=["action", "other_action"], how="left", maintain_order="left")
        return found.drop("other_action")

    def _other_actions(self, ids: pl.Series) -> pl.Series:
        """What the other dataset says of these triplets, null where it lacks one."""
        known, actions = self._sorted["triplet_id"], self._sorted["action"]
        places = known.search_sorted(ids).clip(upper_bound=len(known) - 1)
        return actions.gather(places).zip_with(
            known.gather(places) == ids, pl.Series([None], dtype=pl.String)
        )

    @cached_property
    def _sorted(self) -> pl.DataFrame:
        """The other dataset's actions by their ids: a join would look at all of them for each part."""
        parts = self.other.scan(["triplet_id", "action"]).parts(ROWS_PER_PART)
        actions = [part.select("triplet_id", "action") for part in parts]
        if not actions:
            raise no_triplets([self.other])
        return pl.concat(actions).sort("triplet_id")


def exactly(texts: Sequence[str], others: Sequence[str]) -> list[float]:
    """1 if two texts are the same but for case, blanks and a full stop at the end, else 0."""
    return [float(_bare(text) == _bare(other)) for text, other in zip(texts, others, strict=True)]


def _bare(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(".")
