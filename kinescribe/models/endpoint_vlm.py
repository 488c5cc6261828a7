"""A chat model behind an OpenAI-compatible server as a dynamics model.

A pair that the server fails on, or answers with something else than a sentence, is a failure with a code; no
text and no likelihood is ever made up. Knows nothing of codecs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from textwrap import shorten

from kinescribe.models.dynamics import QUESTION, Description, DynamicsModel, Failure
from kinescribe.models.endpoint import Endpoint, Question, Reply, only_describes
from kinescribe.models.tokens import Codes, Pair, Task, Triplet

SHOWN = 500
"""Characters of a reply in a message."""


class EndpointVLM(DynamicsModel[bytes]):
    """Sends stored images as they are. Many pairs are asked at a time, as many as the endpoint allows."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    @property
    def codec_id(self) -> None:
        """It sees images."""

    def see(self, codes: Codes | None, image: Callable[[], bytes]) -> bytes:
        """The JPEG or PNG."""
        return image()

    def takes(self, task: Task, action: str) -> bool:
        """True: only the server knows, and says so in its reply."""
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
        """See `DynamicsModel.describe`; that a seed gives the same again is up to the server."""
        options = {"max_tokens": max_new_tokens, "temperature": temperature, "logprobs": True}
        questions: dict[str, Question] = {}
        for place, pair in enumerate(pairs):
            seed = {"seed": seeds[place]} if seeds and temperature > 0 else {}
            questions[str(place)] = Question(QUESTION, (pair.source, pair.target), options | seed)
        replies: dict[str, Reply] = {}
        self.endpoint.ask(questions, replies.__setitem__)
        return [_described(replies[name]) for name in questions]

    def score(self, triplets: Sequence[Triplet[bytes]], task: Task = "dynamics") -> list[float]:
        """Raises ModelError: the protocol has no likelihood of an answer that is given."""
        raise only_describes(self.endpoint.name)


def _described(reply: Reply) -> Description | Failure:
    if reply.failure:
        return Failure(f"{reply.failure}: {shorten(reply.text, SHOWN)}")
    text = reply.text.strip()
    if reply.finish_reason not in ("stop", "length"):
        return Failure(f"unfinished: finish_reason {reply.finish_reason}, {shorten(text, SHOWN)!r}")
    if "\n" in text or not re.search(r"\w", text):
        return Failure(f"unparsable: {shorten(text, SHOWN)!r} is no sentence on one line")
    logprobs = reply.logprobs
    likelihood = (None, None) if logprobs is None else (sum(logprobs), len(logprobs))
    return Description(text, *likelihood, reply.finish_reason)
