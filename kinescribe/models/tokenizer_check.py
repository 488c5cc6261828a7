"""Tries a model's tokenizer in a process with limits, since its patterns can take any memory and time.

Knows no family. Imports no torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kinescribe.models.limited_process import answer, limit
from kinescribe.schemas.errors import ModelError

MODULE = "kinescribe.models.tokenizer_check"
PROBE = "Move the red ball 2 cm to the left, then don't touch it! " * 20
MAX_TOKENS_PER_BYTE = 4
"""Most tokenizers split into bytes at worst."""


def require_tokenizer(path: Path) -> None:
    """Raise ModelError if a tokenizer.json can't encode an ordinary text in little memory and time."""
    try:
        num_tokens = int(answer(MODULE, f"{path.absolute()}\n{path.stat().st_mtime_ns}"))
        if num_tokens > MAX_TOKENS_PER_BYTE * len(PROBE):
            raise ValueError(f"it makes {num_tokens} tokens of {len(PROBE)} letters")
    except ValueError as error:
        raise ModelError(
            f"{path.parent} cannot be opened: its {path.name} fails: {error}; restore it"
        ) from error


def _main() -> None:
    from tokenizers import Tokenizer

    path = sys.stdin.readline().rstrip("\n")
    limit()
    print(len(Tokenizer.from_file(path).encode(PROBE).ids))


if __name__ == "__main__":
    _main()
