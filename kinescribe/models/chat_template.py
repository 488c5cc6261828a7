"""Renders a model's chat template, which is a program of the model's author, in a process with limits.

The process sees plain text and returns text, which the model then gets, so the template runs nowhere else.
Imports no torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kinescribe.models.limited_process import answer, limit
from kinescribe.schemas.errors import ModelError

MODULE = "kinescribe.models.chat_template"
PROCESSOR_S = 2
"""Published templates take a hundredth."""
MAX_CHARACTERS = 1 << 16
"""The longest prompt: many times those that are published."""
LITERAL = "{{ messages[0]['rendered'] }}"
"""The template that gives back a rendered text unchanged, which the first message has as `rendered`."""
Conversation = tuple[list[dict[str, Any]], bool]
"""Messages in the form that templates take, and whether the prompt of an answer follows them."""


def rendered(folder: Path, processor: Any, conversations: Sequence[Conversation]) -> list[str]:
    """The text of each conversation.

    `processor` has the template and the special tokens. Raises ModelError if the template fails, needs too
    much time or memory, or makes an absurdly long text.
    """
    template = processor.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not isinstance(template, str) or not template:
        raise ModelError(
            f"{folder} has no chat template; get the model's chat_template.jinja, or name a chat model"
        )
    request = {
        "template": template,
        "tokens": processor.tokenizer.special_tokens_map,
        "conversations": conversations,
    }
    try:
        texts: list[str] = json.loads(answer(MODULE, json.dumps(request, default=str)))
        if any(len(text) > MAX_CHARACTERS for text in texts):
            raise ValueError(f"its text is longer than {MAX_CHARACTERS} characters")
    except ValueError as error:
        raise ModelError(
            f"{folder}: its chat template cannot be used: {error}; get the model's own chat_template.jinja"
        ) from error
    return texts


def _main() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    request = json.load(sys.stdin)
    limit(PROCESSOR_S)
    texts: list[str] = []
    for conversation, asks in request["conversations"]:
        options: dict[str, Any] = {"add_generation_prompt": asks, "enable_thinking": False}
        given = {"conversations": [conversation], "chat_template": request["template"]}
        texts += render_jinja_template(**given, **options, **request["tokens"])[0]
    json.dump(texts, sys.stdout)


if __name__ == "__main__":
    _main()
