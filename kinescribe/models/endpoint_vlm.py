"""A chat model behind an OpenAI-compatible server as a dynamics model.

If a request fails, or the reply is not a sentence, the pair gets a failure with a code. Text and likelihoods
are never made up. Knows nothing of codecs.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import Any, Self

from PIL import Image

from kinescribe.models.dynamics import Description, DynamicsModel, Failure
from kinescribe.models.endpoint import Endpoint, Question, Reply, Turn
from kinescribe.models.families import ENDPOINT
from kinescribe.models.tokens import Codes, Pair, Task, Triplet
from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.prompts import Prompt
from kinescribe.schemas.sampling import GREEDY, Sampling

SHOWN = 500
"""Length in characters of a reply in a message."""
MOST_SHOWN = 20
"""Names of models in a message."""
REMEDY = "start the server, or correct MODEL@URL or the prompt"
NO_THINKING = "start the server with a chat template that turns it off, or name a model that answers at once"
THOUGHTS = re.compile(r"</?(think|thinking|reasoning|thought)>|<\|(begin|end)_of_thought\|>|\[/?THINK\]")
"""What models put around their thoughts."""
QUOTES = ('""', "''", "“”", "‘’", "„“", "«»", "``")
PATIENCE_S = 600.0
"""How long a labelling run waits for a server that is away."""


class EndpointVLM(DynamicsModel[bytes]):
    """Sends stored images unchanged, and as many pairs at a time as the endpoint allows."""

    does = ENDPOINT.does
    pairs_at_once = 10_000
    """All of a unit: the endpoint itself limits how many requests are under way."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.name = endpoint.name

    @classmethod
    def load(cls, name: str, *_: object) -> Self:
        """The endpoint called MODEL@URL; dtype, device and attention are the server's. Raises ConfigError."""
        return cls(Endpoint.named(name))

    def wait_for_server(self, num_at_once: int, note: Callable[[str], object]) -> None:
        """Send up to `num_at_once` requests at a time, and wait for a server that is away.

        `note` takes a line that says so.
        """
        self.endpoint = replace(self.endpoint, num_at_once=num_at_once, patience_s=PATIENCE_S, note=note)

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
        sampling: Sampling = GREEDY,
        seeds: Sequence[int] | None = None,
    ) -> list[Description | Failure]:
        """See `DynamicsModel.describe`; the server decides whether a seed is reproducible."""
        drawn = {name: value for name, value in sampling._asdict().items() if value is not None}
        options = {"max_tokens": max_new_tokens, "logprobs": True, **drawn}
        questions: dict[str, Question] = {}
        for place, pair in enumerate(pairs):
            seed = {"seed": seeds[place]} if seeds and sampling.temperature > 0 else {}
            questions[str(place)] = _question(pair.prompt, pair.images, options | seed)
        replies: dict[str, Reply] = {}
        self.endpoint.ask(questions, replies.__setitem__)
        return [_described(replies[name]) for name in questions]

    def require_answer(self, prompt: Prompt, max_new_tokens: int, num_images: int = 2) -> None:
        """Ask about blank images. Raises ModelError if the server is away, or refuses to answer.

        What it answers doesn't matter: a model may have nothing to say about them.
        """
        options = {"max_tokens": max_new_tokens, "logprobs": True}
        question = _question(prompt, (_blank(),) * num_images, options)
        replies: list[Reply] = []
        once = replace(self.endpoint, max_retries=1)
        once.ask({"": question}, lambda _, reply: replies.append(reply))
        (reply,) = replies
        if reply.failure in ("unreachable", "refused", "garbage"):
            names = [] if reply.failure == "unreachable" else [model.id for model in once.served()]
            known = f"; it serves {', '.join(names[:MOST_SHOWN])}" if names else ""
            reason = shorten(reply.text, SHOWN)
            raise ModelError(f"{self.name} can't be asked: {reply.failure}: {reason}{known}; {REMEDY}")
        if _thinks(reply.text):
            raise ModelError(f"{self.name} thinks before it answers although told not to; {NO_THINKING}")

    def choose(self, pairs: Sequence[Pair[bytes]], actions: Sequence[str]) -> list[Description]:
        """Raise ModelError, as `score` does."""
        raise self._scores_nothing()

    def score(self, triplets: Sequence[Triplet[bytes]], task: Task = "dynamics") -> list[float]:
        """Raise ModelError: the protocol returns no likelihood of a given answer."""
        raise self._scores_nothing()

    def _scores_nothing(self) -> ModelError:
        return ModelError(f"{self.name} is a server, which can't score a given action; name a model's folder")


def _question(prompt: Prompt, images: tuple[bytes, ...], options: Mapping[str, Any]) -> Question:
    earlier = (Turn(one.question, one.images, one.action) for one in prompt.examples)
    return Question(prompt.question, images, options, prompt.system, tuple(earlier))


def _blank() -> bytes:
    """The largest image that is stored by default."""
    jpeg = io.BytesIO()
    Image.new("RGB", (512, 512), "grey").save(jpeg, "JPEG")
    return jpeg.getvalue()


def _described(reply: Reply) -> Description | Failure:
    if reply.failure:
        return Failure(f"{reply.failure}: {shorten(reply.text, SHOWN)}")
    text = _unquoted(reply.text)
    if _thinks(text):
        return Failure(f"unparsable: thoughts, not an answer: {shorten(text, SHOWN)!r}")
    if reply.finish_reason not in ("stop", "length"):
        return Failure(f"unfinished: finish_reason {reply.finish_reason}, {shorten(text, SHOWN)!r}")
    if "\n" in text or not re.search(r"\w", text):
        return Failure(f"unparsable: {shorten(text, SHOWN)!r} is not one line with a sentence")
    logprobs = reply.logprobs
    likelihood = (None, None) if logprobs is None else (sum(logprobs), len(logprobs))
    return Description(text, *likelihood, reply.finish_reason)


def _thinks(text: str) -> bool:
    return bool(THOUGHTS.search(text))


def _unquoted(text: str) -> str:
    """The text without space around it, or quotation marks around the whole of it."""
    text = text.strip()
    for opening, closing in QUOTES:
        inner = text[1:-1]
        if len(text) > 1 and text[0] == opening and text[-1] == closing and not {*inner} & {opening, closing}:
            return inner.strip()
    return text
