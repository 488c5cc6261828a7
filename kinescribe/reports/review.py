"""A page on which people review a dataset's labels: each pair is kept, corrected or rejected.

It shows a pair large, with the other frames of its clip. It keeps what its raters say in their browser, and
exports it as a file that `schemas.review` describes. All texts reach the page as data, never as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from kinescribe.labeling.review_draw import draw_rows, find_rows
from kinescribe.reports.gallery import mean_score, rounded, short
from kinescribe.reports.heatmap import encoded, thumbnail
from kinescribe.reports.page import render, require_page, write_page
from kinescribe.schemas.clips import stable_id
from kinescribe.schemas.config import Draw
from kinescribe.schemas.rendering import Progress
from kinescribe.schemas.review import MAX_ACTION_CHARACTERS, REASONS
from kinescribe.storage.dataset import Dataset, Source
from kinescribe.storage.threads import map_in_threads

MAX_FRAME_BYTES = 48 << 20
"""Total size of the pairs' frames, before base64 makes them a third larger."""
LONGER_SIDE, NEIGHBOUR_SIDE = 640, 120
"""Of a pair's frames, and of the other frames of its clip, in pixels."""
MAX_NEIGHBOUR_BYTES = 6 << 10
MAX_NEIGHBOURS = 24
"""Frames of a clip that are shown, those nearest to the pair."""
MAX_WORDS = 2000
"""Different actions that the page offers for completion, the most frequent ones."""
SHOWN = (
    "triplet_id", "clip_id", "video", "action_class", "action", "action_logprob", "action_tokens",
    "source", "target", "source_time_s", "target_time_s",
)  # fmt: skip


def write_review(
    source: Source,
    out: str,
    num: int,
    draw: Draw,
    seed: int,
    progress: Progress,
    ids: Sequence[str] = (),
) -> int:
    """Write the page of `num` drawn rows, or of those with some ids, to `out`; return how many it has.

    The same seed gives the same page. Raises ConfigError, InputError, DatasetError and StoreError.
    """
    require_page(out)
    dataset = Dataset.open(source)
    find = partial(find_rows, dataset, ids) if ids else partial(draw_rows, dataset, num, draw, seed)
    drawn, how = find(progress), "chosen" if ids else draw
    pairs = _pairs(dataset, drawn)
    page = {
        "id": stable_id(dataset.fingerprint, how, *drawn["triplet_id"]),
        "dataset": dataset.fingerprint,
        "name": dataset.name,
        "draw": how,
        "pairs": [pairs[triplet_id] for triplet_id in drawn["triplet_id"]],
        "words": _words(dataset),
        "reasons": REASONS,
        "longest": MAX_ACTION_CHARACTERS,
    }
    write_page(out, render("review", review=page))
    return len(drawn)


def _pairs(dataset: Dataset, drawn: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """What the page shows of each drawn row, by its id."""
    ids, clips = set(drawn["triplet_id"]), pa.array(drawn["clip_id"].unique().to_list(), pa.string())
    max_bytes = MAX_FRAME_BYTES // (2 * len(drawn))
    rows = dataset.scan()
    units = rows.units(SHOWN, pc.field("clip_id").isin(clips), set(drawn["object"]))

    def read(unit: tuple[str, Callable[[], pa.Table]]) -> list[dict[str, Any]]:
        return _of_unit(unit[1]().to_pylist(), ids, max_bytes)

    return {pair["id"]: pair for pairs in map_in_threads(read, units) for pair in pairs}


def _of_unit(rows: Sequence[Mapping[str, Any]], ids: set[str], max_bytes: int) -> list[dict[str, Any]]:
    @cache
    def large(image: bytes) -> str:
        return encoded(thumbnail(image, max_bytes, LONGER_SIDE), "webp")

    @cache
    def small(image: bytes) -> str:
        return encoded(thumbnail(image, MAX_NEIGHBOUR_BYTES, NEIGHBOUR_SIDE), "webp")

    by_clip: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_clip.setdefault(row["clip_id"], []).append(row)
    return [
        {
            "id": row["triplet_id"],
            "action": row["action"],
            "class": row["action_class"],
            "video": short(row["video"]),
            "times": [rounded(row["source_time_s"]), rounded(row["target_time_s"])],
            "score": mean_score(row),
            "source": large(row["source"]["bytes"]),
            "target": large(row["target"]["bytes"]),
            "clip": [[time, small(image)] for time, image in _frames(by_clip[row["clip_id"]], row)],
        }
        for row in rows
        if row["triplet_id"] in ids
    ]


def _frames(clip: Sequence[Mapping[str, Any]], pair: Mapping[str, Any]) -> list[tuple[float | None, bytes]]:
    """The frames of a clip in the order of their times, those nearest to the pair if there are many."""
    frames = {
        (rounded(row[f"{side}_time_s"]), row[side]["bytes"]) for row in clip for side in ("source", "target")
    }
    ordered = sorted(frames, key=lambda frame: (frame[0] is None, frame[0] or 0.0, frame[1]))
    place = ordered.index((rounded(pair["source_time_s"]), pair["source"]["bytes"]))
    first = max(0, min(place - MAX_NEIGHBOURS // 2, len(ordered) - MAX_NEIGHBOURS))
    return ordered[first : first + MAX_NEIGHBOURS]


def _words(dataset: Dataset) -> list[str]:
    """The most frequent actions of the dataset."""
    counts = pl.DataFrame(schema={"action": pl.String, "len": pl.UInt32})
    for part in dataset.scan(["action"]).parts(1 << 18):
        new = part.group_by("action").len()
        counts = pl.concat([counts, new]).group_by("action").agg(pl.col("len").sum())
    return counts.sort("len", "action", descending=[True, False])["action"].head(MAX_WORDS).to_list()
