"""The pairs of a page: a random sample of a dataset, as columns of plain values, with their images.

A page of ten thousand pairs must stay small and quick: the total size of all frames is limited, which sets
the size of each; a frame that two pairs share is stored once; and images are in blocks, which the page opens
when it first shows one of them. Knows no page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from pathlib import PurePosixPath
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from kinescribe.reports.heatmap import encoded, heat, thumbnail
from kinescribe.schemas.codes import Fit
from kinescribe.storage.rows import OBJECT, Rows
from kinescribe.storage.threads import map_in_threads

MAX_FRAME_BYTES = 32 << 20
"""Total size of the frames on a page, before base64 makes them a third larger."""
IMAGES_PER_BLOCK = 32
SCORED = ("triplet_id", "clip_id", "action_class", "action", "action_logprob", "action_tokens", "motion")
SHOWN = (*SCORED, "video", "source", "target", "source_time_s", "target_time_s", "importance")
COLUMNS = ("id", "action", "class", "video", "times", "score", "tokens", "motion", "source", "target", "heat")


@dataclass(frozen=True, slots=True)
class Gallery:
    """Each column of `pairs` has one entry per pair; `source`, `target` and `heat` are places in `blocks`."""

    pairs: Mapping[str, Sequence[Any]]
    blocks: Sequence[Sequence[str]]
    fit: Fit = "crop"
    """Which part of a frame a heat map covers."""

    def __len__(self) -> int:
        return len(self.pairs["action"])

    @property
    def num_bytes(self) -> int:
        """The size of the images in the page."""
        return sum(len(image) for block in self.blocks for image in block)


def scores(rows: Rows) -> pl.DataFrame:
    """All rows without images; `score` is the mean log-likelihood per token of the action.

    Scores and motion that are not finite numbers become null.
    """
    table = rows.to_table([*SCORED, OBJECT])
    mean = pl.col("action_logprob").cast(pl.Float64) / pl.col("action_tokens").clip(1)
    return pl.DataFrame(table.replace_schema_metadata()).with_columns(
        score=_finite(mean), motion=_finite(pl.col("motion"))
    )


def sampled(table: pl.DataFrame, num: int) -> pl.DataFrame:
    """The `num` rows with the smallest ids: ids are hashes, so this is a random sample."""
    return table.sort("triplet_id").head(num)


def gallery(rows: Rows, chosen: pl.DataFrame, max_frame_bytes: int = MAX_FRAME_BYTES) -> Gallery:
    """The chosen rows of `scores` with their images, in the order of their ids.

    All frames together have at most `max_frame_bytes`.
    """
    max_bytes = max_frame_bytes // max(1, 2 * len(chosen))
    chosen_ids = pc.field("triplet_id").isin(pa.array(chosen["triplet_id"].to_list(), pa.string()))

    def read(unit: tuple[str, Callable[[], pa.Table]]) -> list[dict[str, Any]]:
        return list(_pairs(unit[1](), max_bytes, rows.grid))

    paths = {str(path) for path in chosen[OBJECT]}
    units = map_in_threads(read, rows.units(SHOWN, chosen_ids, paths))
    pairs = sorted((pair for unit in units for pair in unit), key=itemgetter("id"))
    places: dict[str, int] = {}
    for pair in pairs:
        for name in ("source", "target", "heat"):
            if pair[name] is not None:
                pair[name] = places.setdefault(pair[name], len(places))
    images, size = list(places), IMAGES_PER_BLOCK
    blocks = [images[first : first + size] for first in range(0, len(images), size)]
    return Gallery({name: [pair[name] for pair in pairs] for name in COLUMNS}, blocks, rows.fit)


def short(video: str) -> str:
    """Folder and file name: the whole URI may contain a host, a password or a signature."""
    _, is_url, rest = video.partition("://")
    path = rest.partition("/")[2].partition("?")[0] if is_url else video
    return "/".join(PurePosixPath(path).parts[-2:])


def _pairs(unit: pa.Table, max_bytes: int, grid: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """The pairs in a unit's rows, with their images as data URIs."""

    @cache
    def shrunk(image: bytes) -> str:
        return encoded(thumbnail(image, max_bytes), "webp")

    for row in unit.to_pylist():
        yield {
            "id": row["triplet_id"],
            "action": row["action"],
            "class": row["action_class"],
            "video": short(row["video"]),
            "times": [rounded(row["source_time_s"]), rounded(row["target_time_s"])],
            "score": mean_score(row),
            "tokens": row["action_tokens"],
            "motion": rounded(row["motion"]),
            "source": shrunk(row["source"]["bytes"]),
            "target": shrunk(row["target"]["bytes"]),
            "heat": None if row["importance"] is None else encoded(heat(row["importance"], grid), "png"),
        }


def _finite(values: pl.Expr) -> pl.Expr:
    return pl.when(values.is_finite()).then(values)


def mean_score(row: Mapping[str, Any]) -> float | None:
    """The mean log-likelihood per token of a row's action, rounded."""
    logprob, tokens = row["action_logprob"], row["action_tokens"]
    return None if logprob is None else rounded(logprob / max(tokens or 0, 1))


def rounded(value: float | None) -> float | None:
    """Rounded to four digits; None if it is not a finite number, which JSON cannot express."""
    return None if value is None or not math.isfinite(value) else round(value, 4)
