"""A random sample of a dataset's rows, drawn while its units are read in any order."""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence


def row_key(triplet_id: str, seed: int) -> int:
    """A place in a random order of all rows, from 0 up to 2⁶⁴."""
    key = str(seed).encode()[:64]
    return int.from_bytes(hashlib.blake2b(triplet_id.encode(), digest_size=8, key=key).digest())


class RowSample:
    """`num` rows, or all if there are fewer, each as likely as any other.

    They are those whose ids have the smallest hashes, so that the same seed draws the same rows of a dataset.
    """

    def __init__(self, num: int, seed: int) -> None:
        self._num = num
        self._seed = seed
        self._largest_first: list[tuple[int, str, str]] = []
        self._units: dict[str, None] = {}

    def add(self, unit_id: str, triplet_ids: Iterable[str]) -> None:
        """Consider the rows of a unit."""
        self._units[unit_id] = None
        for triplet_id in triplet_ids:
            entry = (-row_key(triplet_id, self._seed), triplet_id, unit_id)
            if len(self._largest_first) < self._num:
                heapq.heappush(self._largest_first, entry)
            else:
                heapq.heappushpop(self._largest_first, entry)

    def by_unit(self) -> Mapping[str, Sequence[str]]:
        """The ids of the drawn rows, by units in the order in which they were added."""
        drawn: defaultdict[str, list[str]] = defaultdict(list)
        for _, triplet_id, unit_id in self._largest_first:
            drawn[unit_id].append(triplet_id)
        return {unit_id: sorted(drawn[unit_id]) for unit_id in self._units if unit_id in drawn}
