"""Finds near-duplicate pairs of frames by their perceptual hashes, among any number of rows.

To compare all rows with each other would take days. So rows are sorted by some of their hashes' bits, each
time in another order of the bits, and each row is compared with the few that follow: two rows that differ in
few bits become neighbours in some of the orders. Knows no datasets; `media.quality` makes the hashes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NUM_ORDERS, NUM_NEIGHBOURS = 32, 16
"""Of the copies that `_copies` tells, these find 94 % among a million rows (`benchmarks/duplicates.py`)."""
SORTED_BITS = 32
"""Low frequencies of the source's hash, and as many of the change's, by which rows are sorted: a crop changes
the higher ones more."""
MAX_FRAME_BITS, MAX_CHANGE_BITS = 60, 26
"""Bits in which the frames (of 256) and the changes (of 128) of two copies differ at most."""
MAX_EVEN_BITS = 48
"""Of the 192 bits that mirroring keeps."""
ROWS_PER_STEP = 1 << 18

Hashes = NDArray[np.uint64]
"""The hashes of source, target and change of N pairs, shape (N, 3, 2): the halves of `media.quality`."""
Ids = NDArray[np.integer]
MIRRORED = np.array([0, 2**64 - 1], np.uint64)
"""What mirroring does to the two halves of a hash."""
LINKS = {"a": pl.UInt32, "b": pl.UInt32, "distance": pl.UInt16}


def duplicate_groups(hashes_N32: Hashes, clips_N: Ids) -> NDArray[np.int32]:
    """The number of each row's group, shape (N,): near-duplicates have the same. `clips_N` are their clips.

    A row has at most one duplicate in each other clip, the one that is most like it, and none in its own: the
    pairs of a clip are often like each other. Where more rows are alike than are compared, the result depends
    on the order of the rows, so give them in one that doesn't change.
    """
    links = _mutual(_links(hashes_N32, clips_N), clips_N)
    ends = (links["a"].to_numpy(), links["b"].to_numpy())
    graph = coo_array((np.ones(len(links), np.bool_), ends), shape=(len(clips_N), len(clips_N)))
    return connected_components(graph, directed=False)[1]


def _links(hashes_N32: Hashes, clips_N: Ids) -> pl.DataFrame:
    """The rows `a` < `b` of different clips that are near-duplicates, and the bits in which they differ."""
    links = pl.DataFrame(schema=LINKS)
    for order in _orders(hashes_N32):
        found = [
            _copies(hashes_N32, first, second, clips_N) for first, second in _neighbours(hashes_N32, order)
        ]
        links = pl.concat([links, *found]).unique(["a", "b"])
    return links


def _orders(hashes_N32: Hashes) -> Iterator[NDArray[np.uint32]]:
    """The rows in order of their most stable bits, each time in another permutation of these."""
    random = np.random.default_rng(0)
    stable = np.ascontiguousarray(hashes_N32[:, [0, 2], 0]).view(np.uint8)
    places = np.concatenate([np.arange(SORTED_BITS), 64 + np.arange(SORTED_BITS)])
    for _ in range(NUM_ORDERS):
        chosen = random.permutation(places)
        keys = np.zeros(len(stable), np.uint64)
        for start in range(0, len(stable), ROWS_PER_STEP):
            bits = np.unpackbits(stable[start : start + ROWS_PER_STEP], axis=1)
            packed = np.packbits(np.take(bits, chosen, axis=1), axis=1)
            keys[start : start + ROWS_PER_STEP] = packed.view(">u8").ravel()
        yield np.argsort(keys, kind="stable").astype(np.uint32)


def _neighbours(
    hashes_N32: Hashes, order: NDArray[np.uint32]
) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
    """Rows that are neighbours in this order and may be copies, also mirrored ones."""
    for start in range(0, len(order), ROWS_PER_STEP):
        rows = order[start : start + ROWS_PER_STEP + NUM_NEIGHBOURS]
        parts = [hashes_N32[rows, part, 0] for part in range(3)]
        for step in range(1, min(NUM_NEIGHBOURS + 1, len(rows))):
            differing = sum(np.bitwise_count(part[:-step] ^ part[step:]) for part in parts)
            near = np.flatnonzero(differing <= MAX_EVEN_BITS)
            yield rows[near], rows[near + step]


def _copies(
    hashes_N32: Hashes, first: NDArray[np.uint32], second: NDArray[np.uint32], clips_N: Ids
) -> pl.DataFrame:
    """The near-duplicates among pairs of rows."""
    is_other = clips_N[first] != clips_N[second]
    first, second = first[is_other], second[is_other]
    differing = hashes_N32[first] ^ hashes_N32[second]
    found: list[pl.DataFrame] = []
    for mirror in (np.zeros_like(MIRRORED), MIRRORED):
        bits = np.bitwise_count(differing ^ mirror).sum(axis=2, dtype=np.uint16)
        frames, change = bits[:, 0] + bits[:, 1], bits[:, 2]
        # A crop changes all hashes. If only the change differs, it is another motion in the same scene.
        most = np.minimum(MAX_CHANGE_BITS, 10 + frames // 2)
        copies = (frames <= MAX_FRAME_BITS) & (change <= most)
        a, b = np.minimum(first, second)[copies], np.maximum(first, second)[copies]
        found.append(pl.DataFrame({"a": a, "b": b, "distance": (frames + change)[copies]}, LINKS))
    return pl.concat(found)


def _mutual(links: pl.DataFrame, clips_N: Ids) -> pl.DataFrame:
    """The links between rows that are each other's closest of their clips."""
    clips = {name: pl.Series(clips_N[links[name].to_numpy()]) for name in ("a", "b")}
    named = links.with_columns(clip_a=clips["a"], clip_b=clips["b"])
    closest = pl.col("distance").min()
    is_closest = [
        pl.col("distance") == closest.over("a", "clip_b"),
        pl.col("distance") == closest.over("b", "clip_a"),
    ]
    return named.filter(is_closest)
