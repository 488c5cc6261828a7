"""The accuracy of labels against the exact truth of the simulated world.

Scores predicted text by whole sentence and by attribute. The truth of a labelled pair comes from the clip's
truth file; the truth of a simulated triplet is its own action.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from kinescribe.evaluation.text_metrics import Wording, wording
from kinescribe.models.dynamics import DynamicsModel, Failure
from kinescribe.models.tokens import Pair
from kinescribe.schemas.errors import InputError, ModelError
from kinescribe.schemas.rendering import BLUE, Figure, Table, panels
from kinescribe.simulation.actions import VERBS, Action, parse
from kinescribe.simulation.clips import Truth, read_truth
from kinescribe.storage.dataset import Dataset

DECILES = 10
WHOLE, NOTHING = 0.5, 0.1
"""A pair shows an action if at least half of it happens between the frames, and at most a tenth of others."""
NO_SENTENCE = "(no sentence)"


class Prediction(NamedTuple):
    """A true action, the predicted text, and its mean log-probability per token if that is known."""

    truth: Action
    text: str
    mean_logprob: float | None


@dataclass(frozen=True, slots=True)
class Rate:
    """Hits among `total` cases; `share` is NaN without cases."""

    hits: int
    total: int

    @property
    def share(self) -> float:
        """Hits per case, in [0, 1]."""
        return self.hits / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share, which has a width at 0 and 1 too; there must be a case."""
        z = 1.96
        middle = (self.hits + z * z / 2) / (self.total + z * z)
        half = z * (self.total * self.share * (1 - self.share) + z * z / 4) ** 0.5 / (self.total + z * z)
        return middle - half, middle + half


def rate_table(title: str, rates: Mapping[str, Rate]) -> Table:
    """Shares and counts; a rate without cases is left out."""
    return Table(
        [
            (name, f"{rate.share:.3f}", f"{rate.hits:,} of {rate.total:,}")
            for name, rate in rates.items()
            if rate.total
        ],
        title,
    )


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Accuracy of labels. Each attribute counts only pairs whose truth has it."""

    exact: Rate
    verb: Rate
    object: Rate
    direction: Rate
    camera_direction: Rate
    """Verb and direction, for camera motions."""
    new_colour: Rate
    by_verb: dict[str, Rate]
    """Exact, by true verb."""
    by_decile: list[Rate]
    """Exact, by decile of mean log-probability, the least likely first."""
    confusion: dict[str, dict[str, int]]
    """True verb → predicted verb → count."""
    wording: Wording

    def tables(self) -> Iterable[Table]:
        """Accuracy by attribute, verb and likelihood, the text metrics, and which verbs are mistaken."""
        attributes = ("exact", "verb", "object", "direction", "camera_direction", "new_colour")
        yield rate_table("accuracy", {name: getattr(self, name) for name in attributes})
        metrics = {name: value for name, value in asdict(self.wording).items() if value is not None}
        yield Table([(name, f"{value:.3f}") for name, value in metrics.items()], "words")
        yield rate_table("exact, by verb", self.by_verb)
        tenths = {f"tenth {number}": rate for number, rate in enumerate(self.by_decile, 1)}
        yield rate_table("exact, by likelihood, the least likely tenth first", tenths)
        mistakes = [
            (true, f"taken for {predicted}", f"{count:,}")
            for true, row in self.confusion.items()
            for predicted, count in row.items()
            if predicted != true
        ]
        yield Table(mistakes, "mistaken verbs")

    def draw(self, figure: Figure) -> None:
        """Accuracy by tenth of likelihood, and which verbs are taken for which."""
        deciles, confusion = panels(figure, 2, width=11.0, height=4.6)
        shares = [rate.share for rate in self.by_decile]
        deciles.bar(range(1, len(shares) + 1), shares, color=BLUE)
        deciles.set(xlabel="tenth by likelihood, least likely first", ylabel="exact", ylim=(0, 1))
        deciles.set_xticks(range(1, len(shares) + 1))
        self._draw_confusion(confusion)

    def _draw_confusion(self, axes: Any) -> None:
        true = [verb for verb in VERBS if verb in self.confusion]
        predicted = [*VERBS, NO_SENTENCE]
        counts = np.array([[self.confusion[verb].get(name, 0) for name in predicted] for verb in true], float)
        shares_of_row = counts / counts.sum(1, keepdims=True)
        axes.imshow(shares_of_row, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), share in np.ndenumerate(shares_of_row):
            if share:
                colour = "white" if share > 0.6 else "black"
                axes.text(column, row, f"{share:.2f}", ha="center", va="center", color=colour, fontsize=7)
        axes.set_xticks(range(len(predicted)), predicted, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(true)), true)
        axes.set(xlabel="predicted verb", ylabel="true verb")
        axes.spines[:].set_visible(False)


def score(predictions: Sequence[Prediction], encoder: str | None = None) -> LabelScores:
    """Score all predictions. `encoder` is the name of a text encoder, which adds BERTScore.

    Raises InputError if there are no predictions, and ModelError.
    """
    if not predictions:
        raise InputError(
            "no pair has a known truth; label clips of the simulated world, and give their truth"
        )
    pairs = [(prediction.truth, parse(prediction.text)) for prediction in predictions]
    exact = np.array([truth == predicted for truth, predicted in pairs])
    likelihoods = {place: p.mean_logprob for place, p in enumerate(predictions) if p.mean_logprob is not None}
    order = np.array(sorted(likelihoods, key=likelihoods.__getitem__), np.int64)
    confusion: dict[str, Counter[str]] = {}
    for truth, predicted in pairs:
        confusion.setdefault(truth.verb, Counter())[predicted.verb if predicted else NO_SENTENCE] += 1
    return LabelScores(
        exact=Rate(int(exact.sum()), len(exact)),
        verb=_rate(pairs, "verb"),
        object=_rate([pair for pair in pairs if not pair[0].is_camera], "object"),
        direction=_rate([pair for pair in pairs if pair[0].direction], "direction"),
        camera_direction=_hits(exact, [truth.is_camera for truth, _ in pairs]),
        new_colour=_rate([pair for pair in pairs if pair[0].new_colour], "new_colour"),
        by_verb={verb: _hits(exact, [truth.verb == verb for truth, _ in pairs]) for verb in VERBS},
        by_decile=[Rate(int(part.sum()), len(part)) for part in np.array_split(exact[order], DECILES)],
        confusion={verb: dict(row) for verb, row in confusion.items()},
        wording=wording([str(p.truth) for p in predictions], [p.text for p in predictions], encoder),
    )


def _rate(pairs: Sequence[tuple[Action, Action | None]], attribute: str) -> Rate:
    hits = [p is not None and getattr(p, attribute) == getattr(t, attribute) for t, p in pairs]
    return Rate(sum(hits), len(hits))


def _hits(exact: np.ndarray[tuple[int], np.dtype[np.bool_]], chosen: Sequence[bool]) -> Rate:
    return Rate(int(exact[np.array(chosen, bool)].sum()), sum(chosen))


def pair_truth(truth: Truth, source_s: float, target_s: float) -> Action | Literal["mixed", "nothing", "cut"]:
    """What happens in the clip between two times.

    "mixed" if no single action fills the pair, "nothing" if none begins, "cut" if the pair spans a cut, which
    labelling must prevent.
    """
    if any(source_s < cut <= target_s for cut in truth.cuts_s):
        return "cut"
    done: defaultdict[str, float] = defaultdict(float)
    for segment in truth.segments:
        done[segment.action] += segment.progress(target_s) - segment.progress(source_s)
    shares = sorted(done.items(), key=lambda item: -item[1])
    if shares[0][1] <= NOTHING:
        return "nothing"
    others = max((share for _, share in shares[1:]), default=0.0)
    action = parse(shares[0][0])
    assert action is not None, shares
    return action if shares[0][1] >= WHOLE and others <= NOTHING else "mixed"


def compare(dataset: str, truth_folder: Path) -> tuple[list[Prediction], Counter[str]]:
    """Compare a labelled dataset of simulated clips with their truth.

    Returns the predictions for pairs that show one action, and the counts of all pairs by what they show:
    "one action", "mixed", "nothing" or "cut".
    """
    truths = read_truth(truth_folder)
    predictions: list[Prediction] = []
    shown: Counter[str] = Counter()
    for row in _rows(dataset, ("video", "source_time_s", "target_time_s", "action", *_SCORES)):
        name = "/".join(row["video"].split("/")[-2:])
        if name not in truths:
            raise InputError(f"{truth_folder}/truth.jsonl has no clip {name}; name the folder of its clips")
        shows = pair_truth(truths[name], row["source_time_s"], row["target_time_s"])
        if isinstance(shows, Action):
            logprob, num_tokens = row["action_logprob"], row["action_tokens"]
            mean = None if logprob is None else logprob / num_tokens
            predictions.append(Prediction(shows, row["action"], mean))
        shown["one action" if isinstance(shows, Action) else shows] += 1
    return predictions, shown


def predict(
    dataset: str, model: DynamicsModel[Any], limit: int | None = None, batch: int = 64
) -> list[Prediction]:
    """The model's own actions for the triplets of a dataset, whose actions are the truth.

    Raises InputError if a model wrote them, and ModelError if the model gives no action.
    """
    rows = list(_rows(dataset, (*_PAIR, "action", "finish_reason"), limit))
    if any(row["finish_reason"] is not None for row in rows):
        raise InputError(
            f"a model wrote actions of {dataset}, so they are not a truth to compare with; name a dataset of "
            "`kinescribe simulate triplets`, or score these labels by `kinescribe evaluate labels`"
        )
    predictions: list[Prediction] = []
    for start in range(0, len(rows), batch):
        chunk = rows[start : start + batch]
        pairs = [Pair(*(_seen(model, row, name) for name in ("source", "target"))) for row in chunk]
        for row, described in zip(chunk, model.describe(pairs, max_new_tokens=12), strict=True):
            if isinstance(described, Failure):
                raise ModelError(f"the model gives no action for a pair: {described.message}")
            truth = parse(row["action"])
            if truth is None:
                raise InputError(
                    f"{row['action']!r} is not an action of the simulated world; name a simulated dataset"
                )
            predictions.append(Prediction(truth, described.text, described.mean_logprob))
    return predictions


_PAIR = ("source", "target", "source_codes", "target_codes")
_SCORES = ("action_logprob", "action_tokens")


def _rows(dataset: str, columns: Sequence[str], limit: int | None = None) -> Iterator[dict[str, Any]]:
    rows = Dataset.open(dataset).scan(columns)
    table = rows.to_table() if limit is None else rows.head(limit)
    yield from table.to_pylist()


def _seen(model: DynamicsModel[Any], row: Mapping[str, Any], name: str) -> Any:
    return model.see(row[f"{name}_codes"], lambda: row[name]["bytes"])
