"""Scores a dataset by what its raters say: precision, their agreement, and what a selection would have.

A label is right if most raters kept it. The precision of the whole dataset is estimated from rows that were
drawn at random or by class, and not from doubtful ones; the calibration of the scores uses all of them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import binomtest

from kinescribe.labeling.calibration import MIN_RATED, calibrate, expected_precision
from kinescribe.labeling.ratings import Ratings
from kinescribe.labeling.scores import scored_parts
from kinescribe.schemas.config import Score
from kinescribe.schemas.errors import InputError
from kinescribe.schemas.rendering import BLUE, GREY, ORANGE, Figure, Progress, Table, panels
from kinescribe.schemas.review import Rating
from kinescribe.storage.dataset import Dataset, no_triplets

NUM_CLASSES = 20
"""Classes that are listed, those with the most rated rows."""
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
"""The shares of a dataset whose expected precision is given."""
NUM_RESAMPLES = 200
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Precision:
    """`right` of `rated` rows are right; `share` is the precision, with its 95 % interval."""

    right: int
    rated: int
    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.share:.3f} ({self.low:.3f} to {self.high:.3f}), {self.right:,} of {self.rated:,}"


@dataclass(frozen=True, slots=True)
class Decile:
    """The rated rows in a tenth of the dataset, by score; `tenth` is from 1, the lowest scores, to 10."""

    tenth: int
    min_score: float
    precision: Precision


@dataclass(frozen=True, slots=True)
class RaterAgreement:
    """Cohen's κ of two raters on the rows that both rated; None if both gave only one verdict."""

    first: str
    second: str
    kappa: float | None
    num: int

    def __str__(self) -> str:
        kappa = "unknown, as both always say the same" if self.kappa is None else f"{self.kappa:.3f}"
        return f"{self.first} and {self.second}: kappa {kappa}, {self.num:,} rows"


@dataclass(frozen=True, slots=True)
class Expected:
    """The expected precision of the `top_k` rows with the highest scores, with its 95 % interval."""

    top_k: int
    min_score: float
    precision: float
    low: float
    high: float

    @property
    def row(self) -> tuple[str, ...]:
        """The fields as cells; the interval is one."""
        interval = f"{self.low:.3f} to {self.high:.3f}"
        return f"{self.top_k:,}", f"{self.min_score:.3f}", f"{self.precision:.3f}", interval


@dataclass(frozen=True, slots=True)
class ReviewScores:
    """The result of a review."""

    raters: dict[str, int]
    """The number of rows that each rated."""
    rated: int
    disputed: int
    """Rows without a majority, which count nowhere else."""
    corrected: int
    reasons: dict[str, int]
    """Why rows were rejected, by rating."""
    precision: Precision | None
    """Of the whole dataset; None if no rated row was drawn at random."""
    doubtful: Precision | None
    """Of the rows that were drawn as doubtful ones, or chosen."""
    by_class: dict[str, Precision]
    by_decile: list[Decile]
    """The tenth with the lowest scores first; empty if the rows have no scores."""
    agreement: list[RaterAgreement]
    expected: list[Expected]
    """Empty if there are too few ratings, or no scores."""

    def tables(self) -> Iterable[Table]:
        """Counts, precision, agreement, and what a selection would have."""
        yield Table([(f"rated by {rater}", f"{num:,}") for rater, num in self.raters.items()])
        counts = ("rated", "disputed", "corrected")
        yield Table([(name, f"{getattr(self, name):,}") for name in counts])
        whole = "unknown, as no row was drawn at random" if self.precision is None else str(self.precision)
        doubtful = [("of doubtful or chosen rows", str(self.doubtful))] if self.doubtful else []
        yield Table([("of the dataset", whole), *doubtful], "precision, 95 % interval")
        if self.by_class:
            yield Table([(name, str(part)) for name, part in self.by_class.items()], "by class")
        if self.by_decile:
            rows = [(f"from {one.min_score:.3f}", str(one.precision)) for one in self.by_decile]
            yield Table(rows, "by tenth of the scores")
        if self.reasons:
            yield Table([(reason, f"{num:,}") for reason, num in self.reasons.items()], "rejected because")
        if self.agreement:
            yield Table([(str(pair),) for pair in self.agreement], "agreement")
        if self.expected:
            columns = ("--top-k", "--min-score", "precision", "95 % interval")
            rows = [one.row for one in self.expected]
            yield Table(rows, "expected of the rows with the highest scores", columns)

    def draw(self, figure: Figure) -> None:
        """Precision by tenth of the scores, and what is expected of a selection."""
        by_score, by_size = panels(figure, 2, width=10.0)
        places = [one.tenth for one in self.by_decile]
        parts = [one.precision for one in self.by_decile]
        low = [part.share - part.low for part in parts]
        high = [part.high - part.share for part in parts]
        by_score.errorbar(
            places, [part.share for part in parts], yerr=[low, high], fmt="o", color=BLUE, ecolor=GREY
        )
        by_score.set(xlabel="tenth of the scores, the lowest first", xlim=(0.5, 10.5))
        by_score.set(ylabel="precision", ylim=(0, 1.02))
        total = self.expected[-1].top_k if self.expected else 1
        shares = [one.top_k / total for one in self.expected]
        low, high = ([getattr(one, name) for one in self.expected] for name in ("low", "high"))
        by_size.fill_between(shares, low, high, color=GREY, alpha=0.4)
        by_size.plot(shares, [one.precision for one in self.expected], color=ORANGE, marker=".")
        by_size.set(xlabel="share of the dataset that is kept", ylabel="expected precision")
        by_size.set(xlim=(0, 1.02), ylim=(0, 1.02))


def score_review(dataset: Dataset, ratings: Ratings, score: Score, progress: Progress) -> ReviewScores:
    """Score a dataset by its ratings. Raises InputError if none of its rows is rated."""
    if not ratings.agreed:
        raise InputError(
            f"the raters disagree on all of the {len(ratings.disputed):,} rows that they rated; rate more"
        )
    every, rated, sizes = _read(dataset, ratings, score, progress)
    if rated.is_empty():
        raise InputError(
            f"none of the rated rows is in {dataset}; name the dataset that the page was built of"
        )
    at_random = pl.col("draw").is_in(["random", "stratified"])
    random, doubtful = rated.filter(at_random), rated.filter(~at_random)
    reasons = Counter(
        rating.reason or "no reason"
        for of_rater in ratings.by_rater.values()
        for rating in of_rater.values()
        if rating.verdict == "reject"
    )
    scored = rated.drop_nulls("score")
    return ReviewScores(
        raters={rater: len(of_rater) for rater, of_rater in sorted(ratings.by_rater.items())},
        rated=len(rated),
        disputed=len(ratings.disputed),
        corrected=sum(agreed.action is not None for agreed in ratings.agreed.values()),
        reasons=dict(reasons.most_common()),
        precision=_whole(random, sizes) if len(random) else None,
        doubtful=_precision(doubtful) if len(doubtful) else None,
        by_class=_by_class(random),
        by_decile=_by_decile(every, scored),
        agreement=_agreement(ratings.by_rater),
        expected=_expected(every, scored),
    )


def _read(
    dataset: Dataset, ratings: Ratings, score: Score, progress: Progress
) -> tuple[NDArray[np.float64], pl.DataFrame, dict[str | None, int]]:
    """The scores of all rows that have one; the rated rows; and the number of rows of each class."""
    scores, rated, sizes = [np.empty(0)], list[pl.DataFrame](), Counter[str | None]()
    for part in scored_parts(dataset, score, progress):
        scores.append(part["score"].drop_nulls().to_numpy())
        rated.append(ratings.rated(part))
        sizes.update(dict(part.group_by("action_class").len().iter_rows()))
    if not rated:
        raise no_triplets([dataset])
    return np.concatenate(scores), pl.concat(rated), dict(sizes)


def _precision(rows: pl.DataFrame) -> Precision:
    """Wilson's interval of a share."""
    right, rated = int(rows["is_right"].sum()), len(rows)
    interval = binomtest(right, rated).proportion_ci(CONFIDENCE, "wilson")
    return Precision(right, rated, right / rated, float(interval.low), float(interval.high))


def _whole(rows: pl.DataFrame, sizes: Mapping[str | None, int]) -> Precision:
    """The precision of the dataset; if rows were drawn by class, each class counts by its size."""
    plain = _precision(rows)
    if "stratified" not in rows["draw"]:
        return plain
    total = sum(sizes[name] for name in rows["action_class"].unique())
    share = variance = 0.0
    for (name,), part in rows.group_by("action_class"):
        right, rated, weight = int(part["is_right"].sum()), len(part), sizes[name] / total
        share += weight * right / rated
        smoothed = (right + 0.5) / (rated + 1)  # a class whose rows are all right is not certain
        variance += weight**2 * smoothed * (1 - smoothed) / rated
    margin = 1.96 * variance**0.5
    return Precision(plain.right, plain.rated, share, max(0.0, share - margin), min(1.0, share + margin))


def _by_class(rows: pl.DataFrame) -> dict[str, Precision]:
    named = rows.filter(pl.col("action_class").is_not_null())
    counts = named["action_class"].value_counts().sort("count", "action_class", descending=[True, False])
    return {
        name: _precision(named.filter(pl.col("action_class") == name))
        for name in counts["action_class"].head(NUM_CLASSES)
    }


def _by_decile(every: NDArray[np.float64], rated: pl.DataFrame) -> list[Decile]:
    if not len(every) or rated.is_empty():
        return []
    bounds = np.quantile(every, np.arange(10) / 10)
    places = np.searchsorted(bounds, rated["score"].to_numpy(), side="right") - 1
    tenths = rated.with_columns(tenth=pl.Series(np.clip(places, 0, 9)))
    return [
        Decile(int(tenth) + 1, float(bounds[int(tenth)]), _precision(part))
        for (tenth,), part in sorted(tenths.group_by("tenth"), key=lambda one: one[0])
    ]


def _agreement(by_rater: Mapping[str, Mapping[str, Rating]]) -> list[RaterAgreement]:
    found: list[RaterAgreement] = []
    for first, second in itertools.combinations(sorted(by_rater), 2):
        rows = sorted(by_rater[first].keys() & by_rater[second].keys())
        if rows:
            verdicts = [(by_rater[first][row].verdict, by_rater[second][row].verdict) for row in rows]
            found.append(RaterAgreement(first, second, _kappa(verdicts), len(rows)))
    return found


def _kappa(verdicts: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's κ: agreement beyond what the raters' shares of each verdict would give by chance."""
    num = len(verdicts)
    agreed = sum(first == second for first, second in verdicts) / num
    ours, theirs = (Counter(column) for column in zip(*verdicts, strict=True))
    chance = sum(ours[name] * theirs[name] for name in ours) / num**2
    return None if chance == 1 else (agreed - chance) / (1 - chance)


def _expected(every: NDArray[np.float64], rated: pl.DataFrame) -> list[Expected]:
    """The expected precision of some shares of the rows; its interval is that of resampled ratings."""
    if not len(every) or len(rated) < MIN_RATED:
        return []
    scores, is_right = rated["score"].to_numpy(), rated["is_right"].to_numpy()
    ordered, means = expected_precision(calibrate(scores, is_right), every)
    counts = sorted({max(1, round(share * len(every))) for share in SHARES})
    places = np.array(counts) - 1
    rng = np.random.default_rng(0)
    resampled: list[NDArray[np.float64]] = []
    # The scores' quantiles stand for all of them, which may be millions.
    sketch = ordered if len(ordered) <= 10_000 else np.quantile(ordered, np.linspace(1, 0, 10_000))
    at = np.clip((np.array(counts) / len(ordered) * len(sketch)).round().astype(int) - 1, 0, None)
    for _ in range(NUM_RESAMPLES):
        drawn = rng.integers(len(scores), size=len(scores))
        resampled.append(expected_precision(calibrate(scores[drawn], is_right[drawn]), sketch)[1][at])
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return [
        Expected(count, float(ordered[place]), float(means[place]), float(low[index]), float(high[index]))
        for index, (count, place) in enumerate(zip(counts, places, strict=True))
    ]
