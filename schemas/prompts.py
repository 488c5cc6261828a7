"""Prompts as users write them: text with placeholders for what is known about a clip.

Knows no model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BeforeValidator

QUESTION = (
    "The first picture was taken a moment before the second. In one short sentence that begins with a verb, "
    "say what was done between the two, or how the camera moved, and nothing else."
)
"""What a model is asked after the two images."""
QUESTION_OF_SEVERAL = (
    "These pictures were taken one after another. In one short sentence that begins with a verb, say what "
    "was done between the first and the last, or how the camera moved, and nothing else."
)
"""What it is asked if it sees frames between the two as well."""
CLASS = "action_class"
UNKNOWN = "unknown"
"""The value of a placeholder of which nothing is known."""
MOST_ACTIONS = 10_000
MOST_CHARACTERS = 500
"""Of a value."""
MARKS = re.compile(r"<[^<>]{1,40}>|\[/?[A-Z_]{2,20}\]")
"""What chat templates mark turns and images with, such as <|im_end|> and [INST]."""


class Example(NamedTuple):
    """A pair whose action is known, as it is shown to a model."""

    images: tuple[bytes, ...]
    """JPEG or PNG: source, frames between the two, target."""
    question: str
    action: str


class Prompt(NamedTuple):
    """What a model is asked about one pair, without its images."""

    question: str = QUESTION
    system: str = ""
    """The system prompt; if it is empty, the model's own."""
    examples: tuple[Example, ...] = ()
    """Earlier turns of the conversation."""


DEFAULT = Prompt()


def placeholders(text: str) -> list[str]:
    """The names in braces. Raises ValueError if a brace has no partner or holds more than a name."""
    try:
        fields = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text)]
    except ValueError:
        fields = [("", "", None)]
    names = [name for name, _, _ in fields if name is not None]
    if not all(names) or any(spec or conversion for name, spec, conversion in fields if name):
        raise ValueError(f"a placeholder is a name in braces, as {{{CLASS}}}; write {{{{ and }}}} for braces")
    return names


def filled(text: str, values: Mapping[str, object]) -> str:
    """The text with values for its placeholders, which can't end a turn or stand for an image."""
    return "".join(
        before + ("" if name is None else plain(values.get(name)))
        for before, name, _, _ in Formatter().parse(text)
    )


def plain(value: object) -> str:
    """The value on one line, without marks of chat templates."""
    words = " ".join(MARKS.sub(" ", str(value)).split()) if value is not None else ""
    return words[:MOST_CHARACTERS] or UNKNOWN


def _file_text(path: str) -> str:
    try:
        return Path(path).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}; name a file of text in UTF-8") from error


def _read(text: str) -> str:
    if text.startswith("@"):
        text = _file_text(text[1:])
    if not text.strip():
        raise ValueError("a prompt must not be empty; leave it out for the default")
    placeholders(text)
    return text.strip()


PromptText = Annotated[str, AfterValidator(_read)]
"""A prompt, or `@FILE` that holds one."""


def _lines(actions: object) -> object:
    return _file_text(actions).splitlines() if isinstance(actions, str) else actions


def _as_vocabulary(actions: tuple[str, ...]) -> tuple[str, ...]:
    actions = tuple(" ".join(action.split()) for action in actions if action.strip())
    if len(actions) < 2:
        raise ValueError("a vocabulary needs at least two actions, one in a line")
    if len(actions) > MOST_ACTIONS:
        raise ValueError(f"a vocabulary may have {MOST_ACTIONS:,} actions, got {len(actions):,}")
    if twice := [action for action, count in Counter(actions).items() if count > 1]:
        raise ValueError(f"the vocabulary has {twice[0]!r} twice; list each action once")
    if wordless := [action for action in actions if not re.search(r"\w", action)]:
        raise ValueError(f"the vocabulary's {wordless[0]!r} has no words; remove it")
    return actions


Vocabulary = Annotated[tuple[str, ...], BeforeValidator(_lines), AfterValidator(_as_vocabulary)]
"""Actions to choose from: a list, or the path of a file with one in each line."""
