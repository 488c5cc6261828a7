"""Files as review pages export them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinescribe.schemas.clips import stable_id
from kinescribe.storage.dataset import Dataset

KEEP, REJECT = {"verdict": "keep"}, {"verdict": "reject", "reason": "nothing"}


def correct(action: str) -> dict[str, str]:
    return {"verdict": "correct", "action": action}


def review(
    folder: Path,
    dataset: Path | str,
    ratings: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]],
    rater: str = "anna",
    /,
    **changes: Any,
) -> str:
    """A file with ratings by triplet, or of the dataset's first triplets by their ids."""
    opened = Dataset.open(dataset)
    if not isinstance(ratings, Mapping):
        ratings = dict(zip(triplets(dataset), ratings, strict=False))
    page = changes.get("page", stable_id("page"))
    values = {
        "page": page,
        "dataset": opened.fingerprint,
        "draw": "random",
        "rater": rater,
        "exported": "2026-12-01T10:00:00.000Z",
        "ratings": ratings,
    }
    path = folder / f"review-{rater}-{page[:8]}-{len(list(folder.glob('review-*')))}.json"
    path.write_text(json.dumps(values | changes))
    return str(path)


def triplets(dataset: Path | str) -> list[str]:
    """The ids of all rows, sorted."""
    return sorted(Dataset.open(dataset).scan(["triplet_id"]).to_table()["triplet_id"].to_pylist())
