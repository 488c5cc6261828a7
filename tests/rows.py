"""The rows of two datasets that are to be the same."""

import pytest

from storage.shards import scan


def rows(dataset: str) -> list[dict[str, object]]:
    """All rows, by their triplets."""
    return sorted(scan(dataset).to_table().to_pylist(), key=lambda row: row["triplet_id"])


def assert_alike(dataset: str, other: str) -> None:
    """The same rows, but for the last bits of importance: other numbers of threads sum in other orders."""
    for one, same in zip(rows(dataset), rows(other), strict=True):
        assert one.pop("importance") == pytest.approx(same.pop("importance"), abs=1e-3)
        assert one == same
