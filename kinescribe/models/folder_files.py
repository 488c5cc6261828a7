"""Checks the files of a model's folder, which may be a stranger's, before any of them is opened.

Looks at names, links, kinds and sizes, and at the numbers of configurations. Knows no family.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kinescribe.schemas.errors import ModelError
from kinescribe.storage.uri import HUB_BLOB

FINGERPRINTED = (".json", ".jinja", ".safetensors")
"""The endings of the files that can change a label; the vocabularies of tokenizers are in a .json too."""
TEXTS = (".json", ".jinja", ".txt")
NETWORK_FILES = ("config.json", "generation_config.json", "adapter_config.json")
MAX_TEXT_BYTES = 64 << 20
"""Twice the largest tokenizer.json that we know."""
MAX_SIZE = 1 << 24
"""The largest number in a network's configuration; the largest published context has 10 million tokens."""
NO_SIZES = {"rope_theta"}
"""Keys whose number allocates nothing."""


def files_of(folder: Path) -> list[Path]:
    """The files that can change a label, also those in a subfolder that is a link, in a fixed order."""
    found = {*folder.rglob("*"), *folder.glob("*/*")}
    return sorted(path for path in found if path.suffix in FINGERPRINTED)


def processor_files(folder: Path) -> list[Path]:
    """What a model's folder has besides network and card: tokenizer, processor, chat template."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in TEXTS
        and not path.name.endswith(".index.json")
        and path.name not in NETWORK_FILES
        and path.is_file()
    )


def require_own_files(folder: Path) -> None:
    """Raise ModelError if a file of the model is none, is too large, or is a link to somebody's secrets.

    A link may lead to a file of the same name in another folder, or into a hub's cache. The text of another
    file could be copied with the model, and then be published.
    """
    home = folder.resolve()
    for path in {*files_of(folder), *folder.glob("*.txt"), *folder.glob("*/*.txt")}:
        try:
            target = path.resolve(strict=True)
            status = target.stat()
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{path} cannot be read: {error}; restore or remove it") from error
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path} is not a file; remove it")
        if path.suffix not in TEXTS:
            continue
        if status.st_size > MAX_TEXT_BYTES:
            raise ModelError(f"{path} has {status.st_size:,} bytes, more than any model's; restore it")
        leads_out = not target.is_relative_to(home) and target.name != path.name
        if leads_out and not HUB_BLOB.search(str(target)):
            raise ModelError(
                f"{path} is a link to {target}, which isn't a file of that name; replace it by a copy"
            )


def require_sizes(path: Path) -> None:
    """Raise ModelError if the configuration in `path` is no JSON object, or has an absurdly large number."""
    for key, value in _numbers(read_object(path)):
        if isinstance(value, int) and abs(value) > MAX_SIZE and key not in NO_SIZES:
            raise ModelError(
                f"{path}: {key} must be at most {MAX_SIZE:,}, got {len(str(abs(value)))} digits; restore it"
            )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ModelError."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(f"{path} is damaged: {error!r:.200}; restore it") from error
    if not isinstance(content, dict):
        raise ModelError(
            f"{path} is damaged: it holds a {type(content).__name__} and not an object; restore it"
        )
    return content


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with the innermost key above it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _numbers(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, key)
    else:
        yield key, value
