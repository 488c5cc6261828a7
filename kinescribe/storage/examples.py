"""The example pairs that a model is shown before a question: a small dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinescribe.schemas.annotation import Asking
from kinescribe.schemas.clips import stable_id
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.prompts import CLASS, Example, plain
from kinescribe.storage.dataset import Dataset

MOST_EXAMPLES = 16


def read_examples(asking: Asking) -> tuple[Example, ...]:
    """The pairs of the dataset that `asking` names, each with its question; none if it names none.

    Raises DatasetError if it can't be read, has no row or too many.
    """
    if asking.examples is None:
        return ()
    rows = Dataset.open(asking.examples).scan()
    count = rows.count_rows()
    if not 0 < count <= MOST_EXAMPLES:
        raise DatasetError(
            f"{asking.examples} has {count:,} pairs, and 1 to {MOST_EXAMPLES} can be examples; choose some "
            "with `kinescribe curate` and its --ids and --materialize"
        )
    known = {*rows.schema.names}.intersection(asking.names)
    between = ["context"] if asking.context_frames and "context" in rows.schema.names else []
    columns = {"source", "target", "action", CLASS, *known, *between}
    return tuple(
        Example(_images(row), asking.asked(row), plain(row["action"]))
        for row in rows.to_table(sorted(columns)).to_pylist()
    )


def _images(row: Mapping[str, Any]) -> tuple[bytes, ...]:
    images = [row["source"], *(row.get("context") or []), row["target"]]
    return tuple(image["bytes"] for image in images)


def examples_id(asking: Asking) -> str | None:
    """A hash of the examples' content; None if there are none. Raises as `read_examples` does."""
    examples = read_examples(asking)
    parts = [part for one in examples for part in (*map(bytes.hex, one.images), one.question, one.action)]
    return stable_id(*parts) if examples else None
