"""Models of a hub (huggingface.co, or HF_ENDPOINT) by ORG/NAME@COMMIT, downloaded once to the hub's cache.

A commit is a hash of its content, so the same name is the same model on every machine; a branch is not. Only
the files that a fingerprint covers and those of tokenizers are downloaded: no pickle, no code. Knows nothing
of their content.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import NamedTuple

import httpx2
from huggingface_hub import HfApi, constants, get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from kinescribe.models.hub_client import limited_hub
from kinescribe.schemas.errors import ModelError
from kinescribe.storage.credentials import holds_credentials

FILES = ["*.safetensors", "*.json", "*.jinja", "*merges.txt", "*vocab.txt", "README.md"]
"""All files whose endings go into a model's fingerprint, and the vocabularies of tokenizers."""
REPOSITORY = r"\w[\w.-]*/\w[\w.-]*"
PINNED = re.compile(rf"({REPOSITORY})@([0-9a-f]{{40}})", re.ASCII)
UNPINNED = re.compile(rf"({REPOSITORY})(?:@([^@:]*))?", re.ASCII)
TIMEOUT_S = 10.0
MAX_MESSAGE = 300
TOKEN = "a token by HF_TOKEN or `hf auth login`, on every machine"
FAILURES = (
    OSError,
    httpx2.HTTPError,
    CachedRepoTreeNotFoundError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
)
"""What the library raises, also for replies that don't have the form that it expects."""


class HubModel(NamedTuple):
    """A commit of a repository."""

    repository: str
    commit: str


def hub_model(name: str) -> HubModel | None:
    """Repository and commit if the name is ORG/NAME@COMMIT with all 40 digits of the hash, else None."""
    match = PINNED.fullmatch(name)
    return HubModel(match[1], match[2]) if match else None


@functools.cache
def hub_folder(model: HubModel) -> Path:
    """The local folder of the commit's files, downloaded if necessary. Raises ModelError."""
    _require_no_password()
    try:
        with limited_hub():
            folder = snapshot_download(model.repository, revision=model.commit, allow_patterns=FILES)
        # Without a network, the library returns a folder that another program downloaded only in part.
        get_cached_repo_tree(model.repository, revision=model.commit)
    except FAILURES as error:
        raise ModelError(f"{'@'.join(model)} cannot be downloaded: {_reason(error)}") from error
    return Path(folder)


def require_commit(name: str) -> None:
    """Raise ModelError if the name, which isn't a folder, may be a hub model without a commit.

    The error names the current commit if the hub returns it. Names inside an existing folder are not looked
    up.
    """
    match = UNPINNED.fullmatch(name)
    if match is None or Path(name).parent.is_dir():
        return
    _require_no_password()
    repository, revision = match.groups()
    try:
        with limited_hub():
            commit = HfApi().model_info(repository, revision=revision or None, timeout=TIMEOUT_S).sha
        if not isinstance(commit, str) or not PINNED.fullmatch(f"{repository}@{commit}"):
            raise ValueError("the hub's commit isn't a hash")
    except FAILURES as error:
        raise ModelError(
            f"no model {name!r}: there is no such folder, and a hub's model is {repository}@COMMIT, with all "
            f"40 digits of the commit, which could not be looked up: {_reason(error)}"
        ) from error
    raise ModelError(f"{name} may change; name its current commit, {repository}@{commit}")


def _require_no_password() -> None:
    """Raise ModelError if the hub's address holds a password, which the library would log."""
    if holds_credentials(constants.ENDPOINT):
        raise ModelError(f"HF_ENDPOINT must not contain a password; give {TOKEN}")


def _reason(error: Exception) -> str:
    """The cause of a failed download, and the remedy."""
    if isinstance(error, GatedRepoError):
        return f"it is gated; accept its terms on its page, and give {TOKEN}"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no such repository, or it is private; check the name, or give {TOKEN}"
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision; check it"
    message = " ".join(str(error).split())[:MAX_MESSAGE] or repr(error)
    return f"{message}; connect to the hub, or name a folder that `hf download --local-dir` wrote"
