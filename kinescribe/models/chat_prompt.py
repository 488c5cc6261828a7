"""A model's chat template around two images, a question and an answer.

The template is rendered once for marks, which are then replaced by the text of each prompt. Knows neither
pixels nor networks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kinescribe.models.chat_template import Conversation, rendered
from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.prompts import Prompt

ANSWER, QUESTION, SYSTEM = "@", "KinescribeQuestion", "KinescribeSystem"
"""Marks: texts that templates leave as they are."""
_MARKS = re.compile(f"{QUESTION}|{SYSTEM}")


class ChatPrompts:
    """The texts that a model gets: its own template around our prompts."""

    def __init__(self, folder: Path, processor: Any) -> None:
        """Raises ModelError if the template fails, or doesn't show the question once."""
        self._folder = folder
        self._processor = processor
        answer = {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]}
        asked = conversation("an image", "an image", Prompt(QUESTION))
        self._own, whole = self._rendered((asked, True), ([*asked, answer], False))
        self.around_answer: tuple[str, str] = ("", "")
        """What the template puts before and after an answer."""
        if whole.startswith(self._own):
            before, _, after = whole.removeprefix(self._own).partition(ANSWER)
            self.around_answer = before, after
        self._with_system: str | None = None

    def text(self, prompt: Prompt) -> str:
        """The text up to the answer. Raises ModelError if the template takes no system prompt."""
        values = {QUESTION: prompt.question, SYSTEM: prompt.system}
        return _MARKS.sub(lambda mark: values[mark[0]], self._template(bool(prompt.system)))

    def _template(self, has_system: bool) -> str:
        if not has_system:
            return self._own
        if self._with_system is None:
            asked = conversation("an image", "an image", Prompt(QUESTION, SYSTEM))
            (self._with_system,) = self._rendered((asked, True))
            self._require_once(self._with_system, SYSTEM, "system prompt; leave annotation.system out")
        return self._with_system

    def _rendered(self, *conversations: Conversation) -> list[str]:
        texts = rendered(self._folder, self._processor, conversations)
        for text in texts:
            self._require_once(text, QUESTION, "question; get the model's own chat_template.jinja")
        return texts

    def _require_once(self, text: str, mark: str, what: str) -> None:
        if text.count(mark) != 1:
            raise ModelError(f"{self._folder}: its chat template does not show once the {what}")


def conversation(source: Any, target: Any, prompt: Prompt) -> list[dict[str, Any]]:
    """Messages in the form that templates and processors take."""
    system = [{"role": "system", "content": [{"type": "text", "text": prompt.system}]}]
    images = [{"type": "image", "image": source}, {"type": "image", "image": target}]
    question = {"type": "text", "text": prompt.question}
    return [*(system if prompt.system else []), {"role": "user", "content": [*images, question]}]
