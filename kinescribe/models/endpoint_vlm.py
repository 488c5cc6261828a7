"""A chat model behind an OpenAI-compatible server as a dynamics model.

If a request fails, or the reply is not a sentence, the pair gets a failure with a code. Text and likelihoods
are never made up. Knows nothing of codecs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from textwrap import shorten
from typing import Self

from kinescribe.models.dynamics import QUESTION, Description, DynamicsModel, Failure
from kinescribe.models.endpoint import Endpoint, Question, Reply
from kinescribe.models.families import ENDPOINT
from kinescribe.models.tokens import Codes, Pair, Task, Triplet
from kinescribe.schemas.errors import ModelError

SHOWN = 500
"""Length in characters of a reply in a message."""


class EndpointVLM(DynamicsModel[bytes]):
    """Sends stored images unchanged, and as many pairs at a time as the endpoint allows."""

    does = ENDPOINT.does

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.name = endpoint.name

    @classmethod
    def load(cls, name: str, *_: object) -> Self:
        """The endpoint called MODEL@URL; dtype, device and attention are the server's. Raises ConfigError."""
        return cls(Endpoint.named(name))

    def details(self) -> list[str]:
        """How many requests run at once."""
        return [f"{self.endpoint.num_at_once} requests at once"]

    @property
    def codec_id(self) -> None:
        """None: it sees images."""

    def see(self, codes: Codes | None, image: Callable[[], bytes]) -> bytes:
        """The JPEG or PNG."""
        return image()

    def takes(self, task: Task, action: str) -> bool:
        """True: only the server knows its context, and its reply says so."""
        return True

    def knows_a_word(self, action: str) -> bool:
        """True: only the server knows."""
        return True

    def describe(
        self,
        pairs: Sequence[Pair[bytes]],
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
    ) -> list[Description | Failure]:
        """See `DynamicsModel.describe`; the server decides whether a seed is reproducible."""
        options = {"max_tokens": max_new_tokens, "temperature": temperature, "logprobs": True}
        questions: dict[str, Question] = {}
        for place, pair in enumerate(pairs):
            seed = {"seed": seeds[place]} if seeds and temperature > 0 else {}
            questions[str(place)] = Question(QUESTION, (pair.source, pair.target), options | seed)
        replies: dict[str, Reply] = {}
        self.endpoint.ask(questions, replies.__setitem__)
        return [_described(replies[name]) for name in questions]

    def score(self, triplets: Sequence[Triplet[bytes]], task: Task = "dynamics") -> list[float]:
        """Raise ModelError: the protocol returns no likelihood of a given answer."""
        raise ModelError(f"{self.name} is a server, which can't score a given action; name a model's folder")


def _described(reply: Reply) -> Description | Failure:
    if reply.failure:
        return Failure(f"{reply.failure}: {shorten(reply.text, SHOWN)}")
    text = reply.text.strip()
    if reply.finish_reason not in ("stop", "length"):
        return Failure(f"unfinished: finish_reason {reply.finish_reason}, {shorten(text, SHOWN)!r}")
    if "\n" in text or not re.search(r"\w", text):
        return Failure(f"unparsable: {shorten(text, SHOWN)!r} is not one line with a sentence")
    logprobs = reply.logprobs
    likelihood = (None, None) if logprobs is None else (sum(logprobs), len(logprobs))
    return Description(text, *likelihood, reply.finish_reason)
