"""How tokens are drawn from a model's probabilities."""

from __future__ import annotations

from typing import NamedTuple


class Sampling(NamedTuple):
    """Greedy at temperature 0. What is None changes nothing."""

    temperature: float = 0.0
    top_p: float | None = None
    """Only the likeliest tokens whose probabilities add up to this."""
    top_k: int | None = None
    """Only so many of the likeliest tokens."""
    repetition_penalty: float | None = None
    """Divides the scores of tokens that are in the prompt or were written; also at temperature 0."""


GREEDY = Sampling()
