"""How similar a text is to the true one: ROUGE, BLEU and BERTScore, by the libraries that the field uses.

The words' meaning is scored in `label_accuracy.py`, for the simulated world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kinescribe.labeling.agreement import Agreement, exactly
from kinescribe.models.checkpoint_files import model_folder
from kinescribe.models.folder_files import require_own_files
from kinescribe.models.hub import hub_model
from kinescribe.preconditions import require_extras
from kinescribe.schemas.errors import ModelError
from kinescribe.storage.dataset import Dataset, Source


@dataclass(frozen=True, slots=True)
class Wording:
    """ROUGE-1 and ROUGE-L (mean F1 of the texts) and BLEU (of the corpus), each from 0 to 1."""

    rouge_1: float
    rouge_l: float
    bleu: float
    bertscore: float | None = None
    """Mean F1 of the texts, not rescaled with a baseline; None without an encoder."""


def wording(truths: Sequence[str], texts: Sequence[str], encoder: str | None = None) -> Wording:
    """Score each text against its truth. There must be at least one.

    `encoder` is the name of a text encoder that transformers opens. Raises ModelError.
    """
    from rouge_score.rouge_scorer import RougeScorer  # both take a second to import
    from sacrebleu import corpus_bleu

    scorer = RougeScorer(["rouge1", "rougeL"])
    scores = [scorer.score(truth, text) for truth, text in zip(truths, texts, strict=True)]
    return Wording(
        rouge_1=sum(score["rouge1"].fmeasure for score in scores) / len(scores),
        rouge_l=sum(score["rougeL"].fmeasure for score in scores) / len(scores),
        bleu=corpus_bleu(list(texts), [list(truths)]).score / 100,
        bertscore=_bertscore(truths, texts, encoder) if encoder else None,
    )


def agreement_with(source: Source, by: str) -> Agreement:
    """The agreement with a dataset that another model labelled: `exact`, `rouge`, or by a text encoder.

    Raises ConfigError if a package is missing, DatasetError and ModelError.
    """
    other = Dataset.open(source)
    if by == "exact":
        return Agreement(other, by, exactly)
    require_extras(f"agree_by {by}", "evaluate")
    return Agreement(other, by, partial(similarities, encoder=None if by == "rouge" else by))


def similarities(texts: Sequence[str], others: Sequence[str], encoder: str | None = None) -> list[float]:
    """ROUGE-L of each two texts, or with an encoder their BERTScore, both F1. Raises ModelError."""
    if encoder:
        return _bertscores(others, texts, encoder)
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    return [scorer.score(other, text)["rougeL"].fmeasure for text, other in zip(texts, others, strict=True)]


def _bertscore(truths: Sequence[str], texts: Sequence[str], encoder: str) -> float:
    scores = _bertscores(truths, texts, encoder)
    return sum(scores) / len(scores)


def _bertscores(truths: Sequence[str], texts: Sequence[str], encoder: str) -> list[float]:
    """Use the layer that the library recommends for a model of this name, else the last one."""
    from bert_score import BERTScorer
    from bert_score.utils import model2layers
    from transformers import AutoConfig, AutoTokenizer

    from kinescribe.models.opening import opening

    folder, pinned = model_folder(encoder), hub_model(encoder)
    if not (folder / "model.safetensors").is_file():
        raise ModelError(f"{encoder} has no model.safetensors; name a text encoder")
    require_own_files(folder)
    with opening(folder):
        # The library would let transformers run a folder's code, and downloads any model called scibert.
        local = {"local_files_only": True, "trust_remote_code": False}
        config = AutoConfig.from_pretrained(folder, **local)
        AutoTokenizer.from_pretrained(folder, **local)
        name = pinned.repository if pinned else folder.name
        layer = model2layers.get(name) or model2layers.get(Path(name).name, config.num_hidden_layers)
        scorer: Any = BERTScorer(str(folder.absolute()), num_layers=layer)
    # The library takes the limit from the tokenizer, which may have none.
    scorer._tokenizer.model_max_length = min(
        scorer._tokenizer.model_max_length, config.max_position_embeddings
    )
    # An empty text scores 0, as in the library, which fails at it with current tokenizers.
    written = [pair for pair in zip(texts, truths, strict=True) if pair[0].strip()]
    found = iter(scorer.score(*map(list, zip(*written, strict=True)))[2].tolist() if written else ())
    return [next(found) if text.strip() else 0.0 for text in texts]
