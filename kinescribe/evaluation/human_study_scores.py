"""Scores a human study: means, win rates, tests, and the agreement with a judge.

The best of a question's outputs gets +1, the worst −1, the others 0 (the human evaluation of
arXiv:2506.06006). In a tie, all get 0. Means and tests are over questions, with scores
averaged over raters, because raters of the same question are not independent.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ValidationError

from kinescribe.evaluation.human_study import CRITERIA, Choice, Key
from kinescribe.evaluation.label_accuracy import Rate
from kinescribe.evaluation.world import Mean, mean_of
from kinescribe.schemas.errors import InputError
from kinescribe.schemas.rendering import Figure, Table, panels
from kinescribe.storage import objects

ALL = "all"
"""The mean of the three criteria, for questions with all of them answered."""


class Picks(BaseModel):
    """A rater's choice by one criterion. Either may be missing in an unfinished study."""

    best: str | None = None
    worst: str | None = None
    tie: bool = False
    """The rater saw no difference, and picked neither."""

    @property
    def is_finished(self) -> bool:
        return self.tie or bool(self.best and self.worst)


class Export(BaseModel):
    """The file that the page exports."""

    study: str
    rater: str
    answers: dict[str, dict[str, Picks]]


class Judgement(NamedTuple):
    """One rater's scores for the outputs of a question by a criterion, by model."""

    question: str
    criterion: str
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """Two models: how often raters preferred the first, without ties, and Wilcoxon's signed-rank test."""

    first: str
    second: str
    wins: Rate
    ties: int
    p_value: float
    """Two-sided, over questions, not corrected for the number of tests; 1 if no question differs."""

    def __str__(self) -> str:
        return (
            f"{self.first} over {self.second}: {self.wins.hits:,} of {self.wins.total:,}, "
            f"ties {self.ties:,}, p = {self.p_value:.3g}"
        )


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """Spearman's correlation of raters' scores with the judge's, over `num` outputs."""

    rho: float
    p_value: float
    num: int

    def __str__(self) -> str:
        return f"judge: rho = {self.rho:.3f}, p = {self.p_value:.3g}, {self.num:,} outputs"


@dataclass(frozen=True, slots=True)
class CriterionScores:
    """Raters' scores by a criterion, −1 to +1: means over questions by model."""

    scores: dict[str, Mean]
    comparisons: list[ModelComparison]
    judge: JudgeAgreement | None
    """None without a judge, or if all its scores are equal."""


@dataclass(frozen=True, slots=True)
class StudyScores:
    """The result of a study, by criterion and over all of them."""

    raters: int
    questions: int
    """Questions with at least one answer."""
    unfinished: int
    """Answers with only a best or only a worst, which don't count."""
    criteria: dict[str, CriterionScores]

    def tables(self) -> Iterable[Table]:
        """By criterion, each model's score and each pair of models compared."""
        counts = ("raters", "questions", "unfinished")
        yield Table([(name, f"{getattr(self, name):,}") for name in counts])
        for criterion, result in self.criteria.items():
            yield Table(
                [(model, f"{mean}") for model, mean in result.scores.items()], f"{criterion}, -1 to +1"
            )
            tests = [*result.comparisons, *([result.judge] if result.judge else [])]
            yield Table([(f"  {test}",) for test in tests])

    def draw(self, figure: Figure) -> None:
        """Raters' scores by criterion and model, with standard errors."""
        (axes,) = panels(figure, 1, width=9.0)
        models = list(next(iter(self.criteria.values())).scores)
        width = 0.8 / len(models)
        for place, model in enumerate(models):
            means = [result.scores[model] for result in self.criteria.values()]
            axes.bar(
                np.arange(len(means)) + (place - (len(models) - 1) / 2) * width,
                [mean.mean for mean in means],
                width,
                yerr=[mean.standard_error or 0 for mean in means],
                error_kw={"elinewidth": 0.8},
                label=model,
            )
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xticks(range(len(self.criteria)), list(self.criteria))
        axes.set(ylabel="raters' score", ylim=(-1, 1))
        axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def score_study(key: Key, files: Sequence[Path]) -> StudyScores:
    """Score the exports in `files`. Raises InputError."""
    exports = _read(key, files)
    answers = [
        (question, criterion, picks)
        for export in exports
        for question, by_criterion in export.answers.items()
        for criterion, picks in by_criterion.items()
    ]
    judgements = [judgement for export in exports for judgement in _judgements(key, export)]
    if not judgements:
        raise InputError(
            "no export has a finished answer, a best and a worst or no difference; have raters answer first"
        )
    by_criterion: defaultdict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        by_criterion[judgement.criterion].append(judgement)
    return StudyScores(
        raters=len(exports),
        questions=len({judgement.question for judgement in judgements}),
        unfinished=sum(not picks.is_finished for _, _, picks in answers),
        criteria={
            criterion: _scores(key, by_criterion[criterion])
            for criterion in (*CRITERIA, ALL)
            if criterion in by_criterion
        },
    )


def _read(key: Key, files: Sequence[Path]) -> list[Export]:
    exports: dict[str, Export] = {}
    for file in files:
        try:
            export = Export.model_validate_json(objects.read_list(str(file)))
        except OSError as error:
            raise InputError(
                f"{file} cannot be read: {error.strerror}; name an export of the study"
            ) from error
        except ValidationError as error:
            raise InputError(
                f"{file} is not an export of a study; name a file that the page exported"
            ) from error
        if export.study != key.study:
            raise InputError(
                f"{file} is of study {export.study}, and the key of {key.study}; give the key of its study"
            )
        if export.rater in exports:
            raise InputError(
                f"{file}: there is another export of rater {export.rater!r}; give the later of the two"
            )
        exports[export.rater] = export
    return list(exports.values())


def _judgements(key: Key, export: Export) -> list[Judgement]:
    """One for each answered criterion, and one over all for each completely answered question."""
    judgements: list[Judgement] = []
    for question, by_criterion in export.answers.items():
        choices = key.questions.get(question, {})
        answered: list[dict[str, float]] = []
        if not all(_is_valid(*answer, choices) for answer in by_criterion.items()) or not choices:
            raise InputError(
                f"the export of {export.rater!r} has an invalid answer to {question}; export it again"
            )
        for criterion, picks in by_criterion.items():
            if picks.is_finished:
                value = {picks.best: 1.0, picks.worst: -1.0}
                answered.append({choice.model: value.get(name, 0.0) for name, choice in choices.items()})
                judgements.append(Judgement(question, criterion, answered[-1]))
        if len(answered) == len(CRITERIA):
            means = {model: float(np.mean([scores[model] for scores in answered])) for model in key.models}
            judgements.append(Judgement(question, ALL, means))
    return judgements


def _is_valid(criterion: str, picks: Picks, choices: Mapping[str, Choice]) -> bool:
    """Whether the picks are two of a question's choices, or fewer."""
    is_known = criterion in CRITERIA and {picks.best, picks.worst} <= {*choices, None}
    if picks.tie:
        return is_known and picks.best is None and picks.worst is None
    return is_known and (picks.best is None or picks.best != picks.worst)


def _scores(key: Key, judgements: Sequence[Judgement]) -> CriterionScores:
    by_question: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    for judgement in judgements:
        by_question[judgement.question].append(judgement.scores)
    means = {
        question: {model: float(np.mean([scores[model] for scores in rated])) for model in key.models}
        for question, rated in by_question.items()
    }
    return CriterionScores(
        scores={model: mean_of([mean[model] for mean in means.values()]) for model in key.models},
        comparisons=[
            _compare(*pair, judgements, list(means.values()))
            for pair in itertools.combinations(key.models, 2)
        ],
        judge=_agreement(key, means),
    )


def _compare(
    first: str, second: str, judgements: Sequence[Judgement], means: Sequence[Mapping[str, float]]
) -> ModelComparison:
    from scipy.stats import wilcoxon  # takes a second to import

    signs = [np.sign(judgement.scores[first] - judgement.scores[second]) for judgement in judgements]
    wins, losses = signs.count(1), signs.count(-1)
    differences = np.array([mean[first] - mean[second] for mean in means])
    test: Any = wilcoxon(differences) if differences.any() else None
    p_value = 1.0 if test is None else float(test.pvalue)
    return ModelComparison(first, second, Rate(wins, wins + losses), signs.count(0), p_value)


def _agreement(key: Key, means: Mapping[str, Mapping[str, float]]) -> JudgeAgreement | None:
    from scipy.stats import spearmanr

    pairs = [
        (means[question][choice.model], choice.judge)
        for question in means
        for choice in key.questions[question].values()
        if choice.judge is not None
    ]
    people, judge = zip(*pairs, strict=True) if pairs else ((), ())
    if min(len(set(people)), len(set(judge))) < 2:
        return None
    correlation: Any = spearmanr(people, judge)
    return JudgeAgreement(float(correlation.statistic), float(correlation.pvalue), len(pairs))
