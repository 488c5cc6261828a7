"""A vision-language model behind an OpenAI-compatible server: vLLM, `transformers serve`, a vendor's API.

Sends many questions, a bounded number at a time. The `openai` client retries passing faults (429, 5xx,
timeouts, broken connections) with growing pauses. A question that still fails gets a reply with a code, never
an invented text. The key is read from OPENAI_API_KEY and only sent with the requests. A server is not
trusted: the time and the size of a reply have limits, and its numbers and characters are checked. Knows
nothing of the questions' content.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from kinescribe.schemas.errors import ConfigError
from kinescribe.storage.credentials import holds_credentials

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionContentPartParam

Failure = Literal["timeout", "unreachable", "refused", "garbage"]
"""No answer in time; no connection; an error status; an answer that doesn't follow the protocol."""


MAX_REPLY_BYTES = 16 << 20
MAX_ERROR_CHARACTERS = 2000
"""The length to which a reply that isn't an answer is cut."""
ROUNDING = 1e-3
"""How far a log-probability may be above 0."""
_HIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that control a terminal, or that change the order in which the others are shown."""


class Question(NamedTuple):
    """A text with JPEGs or PNGs, in order: paths, or the bytes."""

    text: str
    images: tuple[Path | bytes, ...]
    options: Mapping[str, Any] = {}
    """Options of the completion, by the protocol's names, in addition to greedy decoding."""


class Reply(NamedTuple):
    """A server's reply: the model's text, or after a failure the error's."""

    text: str
    failure: Failure | None
    finish_reason: str | None = None
    logprobs: tuple[float, ...] | None = None
    """One per token, if requested and if the server returns them."""


def _without_hidden(text: str) -> str:
    if _HIDDEN.search(text):
        raise ValueError("control characters")
    return text


class _Message(BaseModel):
    content: Annotated[str, AfterValidator(_without_hidden)]


class _Token(BaseModel):
    logprob: Annotated[float, Field(allow_inf_nan=False, le=ROUNDING)]


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None

    def reply(self) -> Reply:
        tokens = self.logprobs and self.logprobs.content
        logprobs = tuple(token.logprob for token in tokens) if tokens else None
        return Reply(self.message.content, None, self.finish_reason, logprobs)


class _Completion(BaseModel):
    """The part of a completion that we read; servers differ in the rest."""

    choices: Annotated[list[_Choice], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model on a server. `timeout_s` is for one try, to the reply's last byte; `max_retries` may follow."""

    model: str
    url: str
    num_at_once: int = 8
    max_retries: int = 6
    timeout_s: float = 120.0

    @property
    def name(self) -> str:
        """MODEL@URL."""
        return f"{self.model}@{self.url}"

    @classmethod
    def named(cls, name: str) -> Endpoint:
        """The endpoint called MODEL@URL. Raises ConfigError."""
        if holds_credentials(name):
            raise ConfigError("the URL of MODEL@URL must not contain a password or key; set OPENAI_API_KEY")
        model, _, url = name.rpartition("@")
        if not model or not url.startswith(("http://", "https://")):
            raise ConfigError(f"no endpoint {name!r}: give MODEL@URL, e.g. qwen@http://localhost:8000/v1")
        return cls(model, url)

    def ask(self, questions: Mapping[str, Question], heard: Callable[[str, Reply], None]) -> None:
        """Ask all questions; `heard` is called with each name and reply as soon as it arrives."""
        asyncio.run(self._ask(questions, heard))

    async def _ask(self, questions: Mapping[str, Question], heard: Callable[[str, Reply], None]) -> None:
        from openai import AsyncOpenAI  # importing it takes a second

        from kinescribe.models.bounded_http import BoundedClient

        slots = asyncio.Semaphore(self.num_at_once)
        key = os.environ.get("OPENAI_API_KEY")

        async def ask_one(name: str, question: Question) -> None:
            async with slots:
                reply = await self._reply(client, question)
            # A server that refuses a key may say which.
            heard(name, reply._replace(text=reply.text.replace(key, "***")) if key else reply)

        async with (
            AsyncOpenAI(
                api_key=key or "none",
                base_url=self.url,
                max_retries=self.max_retries,
                timeout=self.timeout_s,
                http_client=BoundedClient(self.timeout_s, MAX_REPLY_BYTES),
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for name, question in questions.items():
                group.create_task(ask_one(name, question))

    async def _reply(self, client: AsyncOpenAI, question: Question) -> Reply:
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        content: list[ChatCompletionContentPartParam] = [
            *({"type": "image_url", "image_url": {"url": _data_url(image)}} for image in question.images),
            {"type": "text", "text": question.text},
        ]
        options: dict[str, Any] = {"temperature": 0, **question.options}
        try:
            response = await client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=[{"role": "user", "content": content}],
                **options,
            )
        except APITimeoutError as error:
            return Reply(str(error), "timeout")
        except APIConnectionError as error:
            return Reply(str(error.__cause__ or error), "unreachable")
        except APIStatusError as error:
            return Reply(_shortened(f"{error.status_code} {error.response.text}"), "refused")
        return read_reply(response.content)


def read_reply(body: bytes) -> Reply:
    """The reply in the body of a completion; a body that follows another protocol is a failure."""
    try:
        return _Completion.model_validate_json(body).choices[0].reply()
    except ValidationError:
        return Reply(_shortened(body.decode(errors="replace")), "garbage")


def is_endpoint(name: str) -> bool:
    """Whether a model's name is MODEL@URL."""
    return "@http://" in name or "@https://" in name


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_ERROR_CHARACTERS else text[:MAX_ERROR_CHARACTERS] + "…"


def _data_url(image: Path | bytes) -> str:
    data = image.read_bytes() if isinstance(image, Path) else image
    kind = "jpeg" if data.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
