"""A model's chat template around two images, a question and an answer.

The template is rendered once for marks, which are then replaced by the text of each prompt. Knows neither
pixels nor networks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kinescribe.models.chat_template import Conversation, rendered
from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.prompts import Example, Prompt

ANSWER, QUESTION, SYSTEM = "@", "KinescribeQuestion", "KinescribeSystem"
SHOWN, ACTION = "KinescribeShown{}Question", "KinescribeShown{}Action"
"""Marks: texts that templates leave as they are. The last two are those of an example."""
_MARKS = re.compile(rf"{QUESTION}|{SYSTEM}|KinescribeShown\d+(?:Question|Action)")


class _Shape(NamedTuple):
    """What the template is rendered for: prompts of one shape differ only in their texts."""

    has_system: bool
    images_of_examples: tuple[int, ...]
    num_images: int


class ChatPrompts:
    """The texts that a model gets: its own template around our prompts."""

    def __init__(self, folder: Path, processor: Any) -> None:
        """Raises ModelError if the template fails, or doesn't show the question once."""
        self._folder = folder
        self._processor = processor
        answer = _message("assistant", ANSWER)
        asked = conversation(_images(2), Prompt(QUESTION))
        own, whole = self._rendered((asked, True), ([*asked, answer], False))
        self.around_answer: tuple[str, str] = ("", "")
        """What the template puts before and after an answer."""
        if whole.startswith(own):
            before, _, after = whole.removeprefix(own).partition(ANSWER)
            self.around_answer = before, after
        self._templates: dict[_Shape, str] = {_Shape(False, (), 2): own}

    def text(self, prompt: Prompt, num_images: int = 2) -> str:
        """The text up to the answer. Raises ModelError if the template takes no system prompt or examples."""
        values = {QUESTION: prompt.question, SYSTEM: prompt.system}
        for place, one in enumerate(prompt.examples):
            values |= {SHOWN.format(place): one.question, ACTION.format(place): one.action}
        shape = _Shape(bool(prompt.system), tuple(len(one.images) for one in prompt.examples), num_images)
        return _MARKS.sub(lambda mark: values[mark[0]], self._template(shape))

    def _template(self, shape: _Shape) -> str:
        if shape not in self._templates:
            examples = tuple(
                Example((b"",) * number, SHOWN.format(place), ACTION.format(place))
                for place, number in enumerate(shape.images_of_examples)
            )
            prompt = Prompt(QUESTION, SYSTEM if shape.has_system else "", examples)
            asked = conversation(_images(shape.num_images), prompt, lambda _: "an image")
            (text,) = self._rendered((asked, True))
            if shape.has_system:
                self._require_once(text, SYSTEM, "system prompt; leave annotation.system out")
            for one in examples:
                for mark in (one.question, one.action):
                    self._require_once(text, mark, "texts of examples; leave annotation.examples out")
            self._templates[shape] = text
        return self._templates[shape]

    def _rendered(self, *conversations: Conversation) -> list[str]:
        texts = rendered(self._folder, self._processor, conversations)
        for text in texts:
            self._require_once(text, QUESTION, "question; get the model's own chat_template.jinja")
        return texts

    def _require_once(self, text: str, mark: str, what: str) -> None:
        if text.count(mark) != 1:
            raise ModelError(f"{self._folder}: its chat template does not show once the {what}")


def _images(num: int) -> list[str]:
    return ["an image"] * num


def conversation(
    images: Sequence[Any], prompt: Prompt, opened: Callable[[bytes], Any] = lambda data: data
) -> list[dict[str, Any]]:
    """Messages in the form that templates and processors take; `opened` opens the images of examples."""
    messages = [_message("system", prompt.system)] if prompt.system else []
    for one in prompt.examples:
        messages.append(_message("user", one.question, *map(opened, one.images)))
        messages.append(_message("assistant", one.action))
    return [*messages, _message("user", prompt.question, *images)]


def _message(role: str, text: str, *images: Any) -> dict[str, Any]:
    content = [{"type": "image", "image": image} for image in images]
    return {"role": role, "content": [*content, {"type": "text", "text": text}]}
