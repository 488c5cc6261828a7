"""The pairs of a page: a fair sample of a dataset's, as columns of plain values, with their pictures.

A page of ten thousand pairs must stay small and quick: all frames together have a bound, which sets their
size; a frame that two pairs share is there once; and pictures come in blocks, each of which the page opens
when it first shows one of them. Knows no page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from pathlib import PurePosixPath
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from kinescribe.reports.heatmap import encoded, heat, thumbnail
from kinescribe.storage.threads import map_in_threads

MAX_FRAME_BYTES = 32 << 20
"""Of all frames of a page, before base64 makes them a third larger."""
PICTURES_PER_BLOCK = 32
SCORED = ("triplet_id", "action_class", "action", "action_logprob", "action_tokens", "motion")
SHOWN = (*SCORED, "video", "source", "target", "source_time_s", "target_time_s", "importance")
COLUMNS = ("action", "class", "video", "times", "score", "tokens", "motion", "source", "target", "heat")
OBJECT = "__filename"
"""What pyarrow calls the object that a row is in."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """One entry a pair in each column of `pairs`; `source`, `target` and `heat` are places in `blocks`."""

    pairs: Mapping[str, Sequence[Any]]
    blocks: Sequence[Sequence[str]]

    def __len__(self) -> int:
        return len(self.pairs["action"])

    @property
    def num_bytes(self) -> int:
        """What the pictures take in the page."""
        return sum(len(picture) for block in self.blocks for picture in block)


def scores(rows: pads.Dataset) -> pl.DataFrame:
    """What needs no picture, of every row; `score` is the mean log-likelihood per token of the action.

    A score or a motion that is no finite number is none.
    """
    # A footer that is kept for each of a million units is what would fill the memory.
    table = rows.scanner(columns=[*SCORED, OBJECT], cache_metadata=False).to_table()
    mean = pl.col("action_logprob").cast(pl.Float64) / pl.col("action_tokens").clip(1)
    return pl.DataFrame(table.replace_schema_metadata()).with_columns(
        score=_finite(mean), motion=_finite(pl.col("motion"))
    )


def sampled(table: pl.DataFrame, num: int) -> pl.DataFrame:
    """The `num` rows with the smallest ids: ids are hashes, so this is a fair sample."""
    return table.sort("triplet_id").head(num)


def gallery(rows: pads.Dataset, chosen: pl.DataFrame) -> Gallery:
    """The chosen rows of `scores` with their pictures, in the order of their ids."""
    max_bytes = MAX_FRAME_BYTES // max(1, 2 * len(chosen))
    grid = json.loads(rows.schema.metadata[b"kinescribe.codec"])["grid"]
    ids = {str(name): some["triplet_id"] for (name,), some in chosen.group_by(OBJECT)}

    def read(unit: pads.Fragment) -> list[dict[str, Any]]:
        return list(_pairs(unit, ids[unit.path], max_bytes, grid))

    units = map_in_threads(read, (unit for unit in rows.get_fragments() if unit.path in ids))
    found = sorted((pair for unit in units for pair in unit), key=itemgetter("id"))
    places: dict[str, int] = {}
    for pair in found:
        for name in ("source", "target", "heat"):
            if pair[name] is not None:
                pair[name] = places.setdefault(pair[name], len(places))
    pictures, size = list(places), PICTURES_PER_BLOCK
    blocks = [pictures[first : first + size] for first in range(0, len(pictures), size)]
    return Gallery({name: [pair[name] for pair in found] for name in COLUMNS}, blocks)


def short(video: str) -> str:
    """Folder and file name: the whole URI may carry a host, a password or a signature."""
    _, is_url, rest = video.partition("://")
    path = rest.partition("/")[2].partition("?")[0] if is_url else video
    return "/".join(PurePosixPath(path).parts[-2:])


def _pairs(
    unit: pads.Fragment, ids: pl.Series, max_bytes: int, grid: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    """The chosen pairs of a unit, with their pictures as data URIs."""

    @cache
    def shrunk(image: bytes) -> str:
        return encoded(thumbnail(image, max_bytes), "webp")

    chosen = pc.field("triplet_id").isin(pa.array(ids.to_list(), pa.string()))
    for row in unit.to_table(columns=list(SHOWN), filter=chosen).to_pylist():
        logprob, tokens = row["action_logprob"], row["action_tokens"]
        yield {
            "id": row["triplet_id"],
            "action": row["action"],
            "class": row["action_class"],
            "video": short(row["video"]),
            "times": [_rounded(row["source_time_s"]), _rounded(row["target_time_s"])],
            "score": None if logprob is None else _rounded(logprob / max(tokens or 0, 1)),
            "tokens": tokens,
            "motion": _rounded(row["motion"]),
            "source": shrunk(row["source"]["bytes"]),
            "target": shrunk(row["target"]["bytes"]),
            "heat": None if row["importance"] is None else encoded(heat(row["importance"], grid), "png"),
        }


def _finite(values: pl.Expr) -> pl.Expr:
    return pl.when(values.is_finite()).then(values)


def _rounded(value: float | None) -> float | None:
    """Rounded to four digits; None where it is no finite number, which JSON cannot hold."""
    return None if value is None or not math.isfinite(value) else round(value, 4)
