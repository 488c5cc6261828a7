"""How much of the true words a text has: ROUGE and BLEU, through the libraries that the paper's figures use.

Knows nothing of what the words mean; for the simulated world that is scored exactly in `labels.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wording:
    """ROUGE-1 and ROUGE-L (F1, mean over texts) and BLEU (over all texts at once), each from 0 to 1."""

    rouge_1: float
    rouge_l: float
    bleu: float


def wording(truths: Sequence[str], texts: Sequence[str]) -> Wording:
    """Score each text against its one truth; there must be at least one."""
    from rouge_score.rouge_scorer import RougeScorer  # both take a second to import
    from sacrebleu import corpus_bleu

    scorer = RougeScorer(["rouge1", "rougeL"])
    scores = [scorer.score(truth, text) for truth, text in zip(truths, texts, strict=True)]
    return Wording(
        rouge_1=sum(score["rouge1"].fmeasure for score in scores) / len(scores),
        rouge_l=sum(score["rougeL"].fmeasure for score in scores) / len(scores),
        bleu=corpus_bleu(list(texts), [list(truths)]).score / 100,
    )
