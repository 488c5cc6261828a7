"""The form of an action that somebody writes: words on one line, without control characters."""

from __future__ import annotations

import re

HIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that control a terminal, or that change the order in which the others are shown."""


def in_words(action: str) -> str:
    """The action with single spaces. Raises ValueError if it has no words, or control characters."""
    if not re.search(r"\w", action):
        raise ValueError("an action must contain words")
    if HIDDEN.search(action):
        raise ValueError("an action must not contain control characters")
    return " ".join(action.split())
