"""People review a dataset's labels: `kinescribe.review.build(…)` makes the page for them,
`kinescribe.review.apply(…)` reads what it exported.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from kinescribe.arguments import StrPath, StrPaths, checked, no_progress
from kinescribe.preconditions import require_file, require_folder
from kinescribe.schemas.errors import ConfigError, InputError
from kinescribe.schemas.rendering import Progress

if TYPE_CHECKING:
    from kinescribe.evaluation.review_scores import ReviewScores
    from kinescribe.schemas.config import Draw, PageSize, Score
    from kinescribe.schemas.config_base import NotNegative

__all__ = ["apply", "build"]


def __dir__() -> list[str]:
    return __all__


@checked
def build(
    dataset: StrPath,
    out: StrPath,
    *,
    num: PageSize = 200,
    draw: Draw = "random",
    seed: NotNegative = 0,
    ids: StrPath | None = None,
    progress: Progress = no_progress,
) -> int:
    """Write the page on which people review `num` pairs of a dataset. Returns how many it has.

    `draw` says which: `random` ones, the same number of each class (`stratified`), or those with the lowest
    likelihood (`doubtful`). The same seed gives the same page. With `ids`, a file with the id of a triplet
    per line, as reports export them, those are on the page.

    >>> kinescribe.review.build("dataset", "review.html", num=100)

    Raises ConfigError, InputError or DatasetError.
    """
    require_file("out", os.fspath(out))
    from kinescribe.labeling.ids import read_ids
    from kinescribe.reports.review import write_review
    from kinescribe.schemas.config import MAX_PAIRS

    chosen = [] if ids is None else read_ids(os.fspath(ids))
    if len(chosen) > MAX_PAIRS:
        raise ConfigError(f"ids {ids} has {len(chosen):,} ids; a page has at most {MAX_PAIRS:,}; split it")
    return write_review(os.fspath(dataset), os.fspath(out), num, draw, seed, progress, chosen)


@checked
def apply(
    dataset: StrPath,
    reviews: StrPaths,
    out: StrPath | None = None,
    *,
    score: Score = "mean",
    progress: Progress = no_progress,
) -> ReviewScores:
    """Score a dataset by the files that its review pages exported: precision, agreement, calibration.

    With `out`, the rows that raters kept or corrected are written to a dataset of that name, whose actions
    count as given. `score` is what a selection would be made by.

    >>> kinescribe.review.apply("dataset", ["review-anna.json"], "corrected").precision

    Raises ConfigError, InputError or DatasetError.
    """
    if out is not None:
        require_folder("out", os.fspath(out))
    from kinescribe.evaluation.review_scores import score_review
    from kinescribe.labeling.materialize import require_materialized
    from kinescribe.labeling.ratings import read_reviews
    from kinescribe.labeling.reviewed import write_reviewed
    from kinescribe.storage.dataset import Dataset

    opened = Dataset.open(os.fspath(dataset))
    if out is not None:
        require_materialized(os.fspath(out))
    ratings = read_reviews([os.fspath(file) for file in cast(Sequence[StrPath], reviews)])
    if not ratings:
        raise ConfigError("reviews is empty; give the files that the page exported")
    if others := sorted(ratings.keys() - {opened.fingerprint}):
        raise InputError(
            f"a review is of the run {others[0]}, and {opened} is {opened.fingerprint}; name the dataset "
            "that its page was built of"
        )
    scores = score_review(opened, ratings[opened.fingerprint], score, progress)
    if out is not None:
        write_reviewed(opened, ratings[opened.fingerprint], os.fspath(out), progress)
    return scores
