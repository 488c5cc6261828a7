"""A vision-language model behind an OpenAI-compatible server: vLLM, `transformers serve`, a vendor's API.

Sends many questions, a bounded number at a time, also those of several threads. The `openai` client retries
passing faults (429, 5xx, timeouts, broken connections) with growing pauses. A server that is away is waited
for, if asked to. A question that still fails gets a reply with a code, never an invented text. The key is
read from OPENAI_API_KEY and only sent with the requests. A server is not trusted: the time and the size of a
reply have limits, and its numbers and characters are checked. Knows nothing of the questions' content.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from kinescribe.models import event_loop
from kinescribe.schemas.actions import HIDDEN
from kinescribe.schemas.errors import ConfigError, ModelError, ServerAway
from kinescribe.storage.credentials import holds_credentials

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionMessageParam

Failure = Literal["timeout", "unreachable", "refused", "garbage"]
"""No answer in time; no connection; an error status; an answer that doesn't follow the protocol."""


NEUTRAL = {"top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
NEUTRAL_BEYOND_OPENAI: Mapping[str, Any] = {
    "top_k": -1,
    "min_p": 0,
    "repetition_penalty": 1,
    "chat_template_kwargs": {"enable_thinking": False},
}
"""Values that change nothing. Without them, servers such as vLLM use those of the checkpoint, and models that
can think do so before they answer."""
RENAMED = ("logprobs", "max_tokens")
"""Options of a question that may be left out or renamed; what else it asks for is not."""
REFUSABLE = (*NEUTRAL, *NEUTRAL_BEYOND_OPENAI, *RENAMED)
"""Options that are left out, or renamed, for a server that refuses them by name."""
UNPROCESSABLE = (400, 422)
AWAY = (502, 503, 504)
"""What proxies say while the server behind them starts."""
MOST_RETURNS = 3
"""How often a question is asked again after the server was away; it may be what ends the server."""
POLL_S = 2.0
MAX_REPLY_BYTES = 16 << 20
MAX_ERROR_CHARACTERS = 2000
"""The length to which a reply that isn't an answer is cut."""
ROUNDING = 1e-3
"""How far a log-probability may be above 0."""


class Turn(NamedTuple):
    """A question that was answered."""

    text: str
    images: tuple[bytes, ...]
    answer: str


class Question(NamedTuple):
    """A text with JPEGs or PNGs, in order: paths, or the bytes."""

    text: str
    images: tuple[Path | bytes, ...]
    options: Mapping[str, Any] = {}
    """Options of the completion, by the protocol's names, in addition to greedy decoding."""
    system: str = ""
    earlier: tuple[Turn, ...] = ()
    """What comes before it in the conversation."""


class Reply(NamedTuple):
    """A server's reply: the model's text, or after a failure the error's."""

    text: str
    failure: Failure | None
    finish_reason: str | None = None
    logprobs: tuple[float, ...] | None = None
    """One per token, if requested and if the server returns them."""


def _without_hidden(text: str) -> str:
    if HIDDEN.search(text):
        raise ValueError("control characters")
    return text


Shown = Annotated[str, AfterValidator(_without_hidden)]


class _Message(BaseModel):
    content: Shown | None = None
    reasoning_content: Shown | None = None
    reasoning: Shown | None = None
    """The names under which servers give thoughts; they have no content if there was no room left for it."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not self.thoughts:
            raise ValueError("no content")
        return self

    @property
    def thoughts(self) -> str:
        return self.reasoning_content or self.reasoning or ""

    @property
    def text(self) -> str:
        return f"<think>{self.thoughts}" if self.content is None else self.content


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
        return Reply(self.message.text, None, self.finish_reason, logprobs)


class ServedModel(BaseModel):
    """A model in a server's list."""

    id: Shown
    root: Shown | None = None
    """The folder or the hub's name that vLLM loaded it from."""

    @property
    def identity(self) -> str:
        """What tells it from other models, wherever it is served."""
        root = self.root or self.id
        return Path(root).name if root.startswith("/") else root


class _Models(BaseModel):
    data: list[ServedModel]


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
    patience_s: float = 0.0
    """How long a server that is away is waited for."""
    note: Callable[[str], object] = print
    """Takes a line that says that the server is away, or answers again."""
    refused: set[str] = field(default_factory=set, compare=False)
    """The options that the server has refused so far."""
    slots: asyncio.Semaphore = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "slots", asyncio.Semaphore(self.num_at_once))

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
        """Ask all questions; `heard` is called with each name and reply as soon as it arrives.

        Raises ServerAway if the server was away for `patience_s`.
        """
        event_loop.run(self._ask(questions, heard))

    def served(self) -> list[ServedModel]:
        """The models that the server lists; empty if it keeps no list.

        Raises ModelError if no server answers.
        """
        return event_loop.run(self._served())

    @property
    def identity(self) -> str:
        """The name of the model that the server says it serves as `model`, else `model`.

        Raises ModelError if no server answers.
        """
        return next((one.identity for one in self.served() if one.id == self.model), self.model)

    async def _served(self) -> list[ServedModel]:
        from openai import APIConnectionError, APIError

        async with self._client() as client:
            try:
                response = await client.models.with_raw_response.list()
                return _Models.model_validate_json(response.content).data
            except APIConnectionError as error:
                raise ModelError(
                    f"{self.name} can't be asked: unreachable: {error.__cause__ or error}; start the server, "
                    "or correct MODEL@URL"
                ) from error
            except (APIError, ValidationError):
                return []

    def _client(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI  # importing it takes a second

        from kinescribe.models.bounded_http import BoundedClient

        return AsyncOpenAI(
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            base_url=self.url,
            max_retries=self.max_retries,
            timeout=self.timeout_s,
            http_client=BoundedClient(self.timeout_s, MAX_REPLY_BYTES),
        )

    async def _ask(self, questions: Mapping[str, Question], heard: Callable[[str, Reply], None]) -> None:
        key = os.environ.get("OPENAI_API_KEY")
        lost: list[ServerAway] = []

        async def ask_one(name: str, question: Question) -> None:
            try:
                async with self.slots:
                    reply = await self._patient_reply(client, question)
            except ServerAway as error:  # not raised here, or the group would wrap it
                lost.append(error)
            else:
                # A server that refuses a key may say which.
                heard(name, reply._replace(text=reply.text.replace(key, "***")) if key else reply)

        async with self._client() as client, asyncio.TaskGroup() as group:
            for name, question in questions.items():
                group.create_task(ask_one(name, question))
        if lost:
            raise lost[0]

    async def _patient_reply(self, client: AsyncOpenAI, question: Question) -> Reply:
        """The reply, asked for again whenever the server was away and has returned, up to a limit."""
        for _ in range(MOST_RETURNS):
            reply = await self._reply(client, question)
            if reply.failure not in ("unreachable", "timeout") or not self.patience_s:
                return reply
            if await self._answers(client):
                if reply.failure == "timeout":  # the server is there, and takes too long
                    return reply
                continue
            await self._wait_until_back(client)
        return await self._reply(client, question)

    async def _wait_until_back(self, client: AsyncOpenAI) -> None:
        """Raises ServerAway after `patience_s`."""
        self.note(f"{self.name} does not answer; waiting up to {self.patience_s / 60:g} min for it")
        deadline = time.monotonic() + self.patience_s
        while not await self._answers(client):
            if time.monotonic() > deadline:
                raise ServerAway(
                    f"{self.name} has not answered for {self.patience_s / 60:g} min; start it, then run the "
                    "same command again, which goes on with what is left"
                )
            await asyncio.sleep(POLL_S)
        self.note(f"{self.name} answers again")

    async def _answers(self, client: AsyncOpenAI) -> bool:
        """Whether there is a server, whatever it says."""
        from openai import APIConnectionError, APIStatusError

        try:
            await client.with_options(max_retries=0).models.with_raw_response.list()
        except APIConnectionError:  # also no answer in time
            return False
        except APIStatusError as error:
            return error.status_code not in AWAY
        return True

    async def _reply(self, client: AsyncOpenAI, question: Question) -> Reply:
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        messages = _messages(question)
        while True:
            options = self._options(question)
            try:
                response = await client.chat.completions.with_raw_response.create(
                    model=self.model,
                    messages=messages,
                    **options,
                )
            except APITimeoutError as error:
                return Reply(str(error), "timeout")
            except APIConnectionError as error:
                return Reply(str(error.__cause__ or error), "unreachable")
            except APIStatusError as error:
                if error.status_code in AWAY:
                    return Reply(_shortened(f"{error.status_code} {error.response.text}"), "unreachable")
                text, sent = error.response.text, {*options, *options.get("extra_body", {})}
                named = {name for name in sent.intersection(REFUSABLE) if re.search(rf"\b{name}\b", text)}
                named -= {name for name in question.options if name not in RENAMED}
                if error.status_code not in UNPROCESSABLE or not named:
                    return Reply(_shortened(f"{error.status_code} {text}"), "refused")
                self.refused.update(named)
            else:
                return read_reply(response.content)

    def _options(self, question: Question) -> dict[str, Any]:
        """The options of a completion that the server has not refused."""
        asked = {name: question.options.get(name, value) for name, value in NEUTRAL_BEYOND_OPENAI.items()}
        options: dict[str, Any] = {"temperature": 0, **NEUTRAL, **question.options}
        if "max_tokens" in self.refused and "max_tokens" in options:
            options["max_completion_tokens"] = options["max_tokens"]
        own = {name: value for name, value in asked.items() if name not in self.refused}
        kept = {name: value for name, value in options.items() if name not in {*self.refused, *asked}}
        return kept | ({"extra_body": own} if own else {})


def _messages(question: Question) -> list[ChatCompletionMessageParam]:
    messages: list[ChatCompletionMessageParam] = []
    if question.system:
        messages.append({"role": "system", "content": question.system})
    for turn in question.earlier:
        messages.append({"role": "user", "content": _content(turn.text, turn.images)})
        messages.append({"role": "assistant", "content": turn.answer})
    return [*messages, {"role": "user", "content": _content(question.text, question.images)}]


def _content(text: str, images: Sequence[Path | bytes]) -> list[ChatCompletionContentPartParam]:
    return [
        *({"type": "image_url", "image_url": {"url": _data_url(image)}} for image in images),
        {"type": "text", "text": text},
    ]


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
