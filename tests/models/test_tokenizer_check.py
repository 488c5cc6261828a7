"""A tokenizer.json that a stranger wrote."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinescribe.models.checkpoint_files import EMBEDDED
from kinescribe.models.registry import load
from kinescribe.models.tokenizer_check import require_tokenizer
from kinescribe.schemas.errors import ModelError
from tests.tiny_chat import tiny_chat
from tests.tiny_vlm import tiny_vlm


def replacing(*patterns: str, by: str = "x" * 100) -> dict[str, Any]:
    steps = [{"type": "Replace", "pattern": {"Regex": pattern}, "content": by} for pattern in patterns]
    return {"normalizer": {"type": "Sequence", "normalizers": steps}}


HOSTILE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "a text that grows": lambda tokenizer: tokenizer | replacing(".", ".", ".", ".", "."),
    "a pattern that backtracks": lambda tokenizer: tokenizer | replacing(r"(\w+\s?)+$"),
    "no pattern": lambda tokenizer: tokenizer | replacing("("),
    "a long prefix": lambda tokenizer: (
        tokenizer | {"normalizer": {"type": "Prepend", "prepend": "x" * 10_000_000}}
    ),
    "no model": lambda tokenizer: tokenizer | {"model": None},
    "nothing": lambda tokenizer: {},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tokenizer_is_refused(tmp_path: Path, name: str):
    path = tiny_chat("llava", tmp_path) / "tokenizer.json"
    path.write_text(json.dumps(HOSTILE[name](json.loads(path.read_text()))))
    with pytest.raises(ModelError, match=r"cannot be opened: .*; restore it") as refused:
        load(str(tmp_path), "dynamics")
    assert "\n" not in str(refused.value)


def test_a_unified_models_tokenizer_is_tried_too(tmp_path: Path):
    tiny_vlm().save(tmp_path)
    path = tmp_path / "tokenizer.json"
    require_tokenizer(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | replacing(".", ".", ".", ".", ".")))
    with pytest.raises(ModelError, match=r"tokenizer\.json fails"):
        load(str(tmp_path), "dynamics")


def test_the_tokenizers_that_come_with_the_package_pass():
    for folder in EMBEDDED.values():
        require_tokenizer(folder / "tokenizer.json")
