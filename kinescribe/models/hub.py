"""Models of a hub (huggingface.co, or HF_ENDPOINT) by ORG/NAME@COMMIT, downloaded once to the hub's cache.

A commit is a hash of all that it holds, so the same string is the same model on every machine, as a branch is
not. Fetched are the files that a fingerprint covers and those of tokenizers: no pickle, no code. Knows
nothing of what is in them.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import NamedTuple

import httpx2
from huggingface_hub import HfApi, get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from kinescribe.schemas.errors import ModelError

FILES = ["*.safetensors", "*.json", "*.jinja", "*merges.txt", "*vocab.txt"]
"""Every file with an ending that goes into a model's fingerprint: some of them would make another."""
REPOSITORY = r"\w[\w.-]*/\w[\w.-]*"
PINNED = re.compile(rf"({REPOSITORY})@([0-9a-f]{{40}})", re.ASCII)
UNPINNED = re.compile(rf"({REPOSITORY})(?:@([^@:]*))?", re.ASCII)
TIMEOUT_S = 10.0
TOKEN = "a token by HF_TOKEN or `hf auth login`, on every machine"
FAILURES = (OSError, httpx2.HTTPError, HFValidationError, CachedRepoTreeNotFoundError)


class HubModel(NamedTuple):
    """A commit of a repository."""

    repository: str
    commit: str


def hub_model(name: str) -> HubModel | None:
    """What the name says, where it is ORG/NAME@COMMIT; the commit is all 40 digits of its hash."""
    match = PINNED.fullmatch(name)
    return HubModel(match[1], match[2]) if match else None


@functools.cache
def hub_folder(model: HubModel) -> Path:
    """Where the files of the commit are, after they were downloaded. Raises ModelError."""
    try:
        folder = snapshot_download(model.repository, revision=model.commit, allow_patterns=FILES)
        # Without a network the library gives a folder, which another program began, as it is.
        get_cached_repo_tree(model.repository, revision=model.commit)
    except FAILURES as error:
        raise ModelError(f"{'@'.join(model)} cannot be downloaded: {_reason(error)}") from error
    return Path(folder)


def require_commit(name: str) -> None:
    """Raises ModelError where the name, of no folder, may be that of a hub's model without its commit.

    The error says which commit it is now, if the hub does. A name in a folder that is here is not asked for.
    """
    match = UNPINNED.fullmatch(name)
    if match is None or Path(name).parent.is_dir():
        return
    repository, revision = match.groups()
    try:
        commit = HfApi().model_info(repository, revision=revision or None, timeout=TIMEOUT_S).sha
    except FAILURES as error:
        raise ModelError(
            f"no model {name!r}: there is no such folder, and a hub's model is {repository}@COMMIT, with all "
            f"40 digits of the commit, which cannot be asked for: {_reason(error)}"
        ) from error
    raise ModelError(f"{name} may change: name the commit that it is now, {repository}@{commit}")


def _reason(error: Exception) -> str:
    """What is wrong, and the remedy."""
    if isinstance(error, GatedRepoError):
        return f"it is gated; agree to its terms on its page, and give {TOKEN}"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no such repository, or shows it to some; check the name, or give {TOKEN}"
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision; check it"
    said = " ".join(str(error).split()) or repr(error)
    return f"{said}; connect to the hub, or name a folder that `hf download --local-dir` wrote"
