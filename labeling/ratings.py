"""What the raters of a dataset agree on, from the files that their review pages exported."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import polars as pl
from pydantic import ValidationError

from kinescribe.schemas.clips import stable_id
from kinescribe.schemas.errors import InputError
from kinescribe.schemas.review import Rating, Review
from kinescribe.storage import objects


class Agreed(NamedTuple):
    """What most raters of a row say of its action, and the right words if they know better ones."""

    is_right: bool
    action: str | None


@dataclass(frozen=True)
class Ratings:
    """The ratings of the rows of one dataset, whose run has the fingerprint `dataset`.

    `agreed` has the rows with a majority, and `disputed` the others. `draws` says how each rated row was
    drawn; a row of several pages counts as drawn at random if it was in one of them.
    """

    dataset: str
    by_rater: Mapping[str, Mapping[str, Rating]]
    agreed: Mapping[str, Agreed]
    disputed: Sequence[str]
    draws: Mapping[str, str]

    @property
    def left_out(self) -> list[str]:
        """The rows whose action is wrong or disputed."""
        return sorted([*self.disputed, *(row for row, agreed in self.agreed.items() if not agreed.is_right)])

    def rated(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Those of the rows with a majority, with the columns `is_right` and `draw`."""
        return rows.join(self._table, on="triplet_id")

    @cached_property
    def _table(self) -> pl.DataFrame:
        table = [(row, agreed.is_right, self.draws[row]) for row, agreed in self.agreed.items()]
        schema = {"triplet_id": pl.String, "is_right": pl.Boolean, "draw": pl.String}
        return pl.DataFrame(table, schema, orient="row")

    @property
    def digest(self) -> str:
        """A hash of what is agreed."""
        return stable_id(self.dataset, sorted(self.agreed.items()), sorted(self.disputed))


def read_reviews(files: Iterable[str]) -> dict[str, Ratings]:
    """The ratings by the fingerprint of their dataset's run.

    If a rater exported a page several times, the last export counts. Raises InputError if a file is not a
    review.
    """
    latest: dict[tuple[str, str, str], Review] = {}
    for file in files:
        review = _read(file)
        before = latest.get(key := (review.dataset, review.page, review.rater))
        if before is None or before.exported < review.exported:
            latest[key] = review
    by_dataset: defaultdict[str, list[Review]] = defaultdict(list)
    for review in sorted(latest.values(), key=lambda review: (review.exported, review.page, review.rater)):
        by_dataset[review.dataset].append(review)
    return {dataset: _ratings(dataset, reviews) for dataset, reviews in by_dataset.items()}


def _read(file: str) -> Review:
    try:
        return Review.model_validate_json(objects.read_list(file))
    except OSError as error:
        raise InputError(
            f"review {file} cannot be read: {error.strerror or error}; name the file that the page exported"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{file} is not a review ({f'{place}: ' if place else ''}{first['msg']}); name a file that the "
            "page of `review build` exported"
        ) from error


def _ratings(dataset: str, reviews: Sequence[Review]) -> Ratings:
    """The ratings of one dataset, from reviews in the order of their exports."""
    by_rater: defaultdict[str, dict[str, Rating]] = defaultdict(dict)
    draws: dict[str, str] = {}
    for review in reviews:
        by_rater[review.rater].update(review.ratings)
        for row in review.ratings:
            if draws.get(row) != "random":
                draws[row] = review.draw
    by_row: defaultdict[str, list[Rating]] = defaultdict(list)
    for rater in sorted(by_rater):
        for row, rating in by_rater[rater].items():
            by_row[row].append(rating)
    found = {row: _agreed(ratings) for row, ratings in sorted(by_row.items())}
    return Ratings(
        dataset,
        by_rater,
        {row: agreed for row, agreed in found.items() if agreed},
        [row for row, agreed in found.items() if agreed is None],
        draws,
    )


def _agreed(ratings: Sequence[Rating]) -> Agreed | None:
    """What the majority says, None if there is none. The most frequent correction counts."""
    verdicts = Counter(rating.verdict for rating in ratings)
    num_right, num_wrong = verdicts["keep"], verdicts["correct"] + verdicts["reject"]
    if num_right == num_wrong:
        return None
    if num_right > num_wrong:
        return Agreed(is_right=True, action=None)
    if verdicts["correct"] < verdicts["reject"]:
        return Agreed(is_right=False, action=None)
    words = Counter(rating.action for rating in ratings if rating.action is not None)
    return Agreed(is_right=False, action=words.most_common(1)[0][0])
