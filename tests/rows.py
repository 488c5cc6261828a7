"""Compares the rows of two datasets."""

import pytest

from kinescribe.storage.dataset import Dataset


def rows(dataset: str) -> list[dict[str, object]]:
    """All rows, by their triplets."""
    return sorted(Dataset.open(dataset).scan().to_table().to_pylist(), key=lambda row: row["triplet_id"])


def assert_alike(dataset: str, other: str) -> None:
    """Compares rows up to the last bits of sums, whose order depends on the number of threads."""
    for one, same in zip(rows(dataset), rows(other), strict=True):
        assert one.pop("importance") == pytest.approx(same.pop("importance"), abs=1e-3)
        assert one.pop("action_logprob") == pytest.approx(same.pop("action_logprob"), rel=1e-6)
        assert one == same
