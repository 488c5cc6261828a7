"""The measured quality of a dataset's pairs: the distribution of each measure, and the pairs with the worst.

Knows no page, and nothing of how quality is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from kinescribe.reports.distributions import Histogram, histogram, share_axis
from kinescribe.reports.gallery import gallery
from kinescribe.storage.rows import OBJECT, Rows

NUM_WORST = 3
MAX_FRAME_BYTES = 8 << 10
WORST: Mapping[str, tuple[str, str, bool]] = {
    "sharpness": ("sharpness", "Variance of the Laplacian of the less sharp frame; low is blurred.", True),
    "brightness": ("brightness", "Mean brightness of both frames; 0 is black, and 1 white.", True),
    "clipping": ("clipping", "Share of pixels that are crushed to black or blown to white.", False),
    "bars": ("bars", "Share of the picture that black bars cover.", False),
    "text_share": ("text", "Share of the picture that writing covers.", False),
}
"""The title and meaning of each column, and whether the lowest values are the worst."""


@dataclass(frozen=True, slots=True)
class Example:
    """A pair with a bad value: its frames as data URIs."""

    value: float
    video: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure, its distribution, and the pairs with the worst values, one of a clip, worst first."""

    title: str
    meaning: str
    histogram: Histogram
    examples: Sequence[Example]


def measures(rows: Rows) -> list[Measure]:
    """The measures that the dataset has; empty for one without any."""
    names = [name for name in WORST if name in rows.schema.names]
    if not names:
        return []
    table = pl.DataFrame(rows.to_table(["triplet_id", "clip_id", OBJECT, *names]).replace_schema_metadata())
    return [measure for name in names if (measure := _measure(rows, table, name))]


def _measure(rows: Rows, table: pl.DataFrame, name: str) -> Measure | None:
    title, meaning, is_lowest = WORST[name]
    found = histogram(table[name], share_axis(table[name]))
    if found is None:
        return None
    known = table.drop_nulls(name).sort(name, "triplet_id", descending=[not is_lowest, False])
    if not is_lowest:
        known = known.filter(pl.col(name) > 0)
    worst = known.unique("clip_id", keep="first", maintain_order=True).head(NUM_WORST)
    shown = gallery(rows, worst, 2 * NUM_WORST * MAX_FRAME_BYTES)
    images = [image for block in shown.blocks for image in block]
    examples = {
        id_: Example(value, *frames)
        for id_, value, frames in zip(
            worst.sort("triplet_id")["triplet_id"],
            worst.sort("triplet_id")[name],
            _frames(shown.pairs, images),
            strict=True,
        )
    }
    return Measure(title, meaning, found, [examples[id_] for id_ in worst["triplet_id"]])


def _frames(pairs: Mapping[str, Sequence[int | str]], images: Sequence[str]) -> list[tuple[str, str, str]]:
    """The video and the two images of each pair."""
    places = zip(pairs["video"], pairs["source"], pairs["target"], strict=True)
    return [(str(video), images[int(source)], images[int(target)]) for video, source, target in places]
