"""Datasets without video or model: units with given outcomes, with small real JPEGs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from kinescribe.labeling.units import plan_units
from kinescribe.schemas.clips import Clip, WorkUnit, stable_id
from kinescribe.schemas.dataset import triplet_schema
from kinescribe.schemas.likelihoods import Histogram
from kinescribe.schemas.outcomes import ClipOutcome, DropReason, RejectCode, StageTime, Status
from kinescribe.storage.plan import Plan, plan_digest, plan_uri, write_plan
from kinescribe.storage.run import Run, bind
from kinescribe.storage.shards import unit_uri, write_unit

GRID = (2, 3)
SCHEMA = triplet_schema("codec-of-tests", GRID)
Ending = int | DropReason | RejectCode
"""The number of triplets of a kept clip, or the reason of a drop or reject."""


def clip(name: str) -> Clip:
    return Clip(clip_id=stable_id(name), uri=f"/videos/{name}.mp4", action_class="jump", size_bytes=1000)


def image(colour: str) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), colour).save(buffer, "JPEG")
    return {"bytes": buffer.getvalue(), "path": None}


def row(clip: Clip, index: int) -> dict[str, Any]:
    return {
        "triplet_id": stable_id(clip.clip_id, index),
        "clip_id": clip.clip_id,
        "video": clip.uri,
        "action_class": clip.action_class,
        "source": image("red"),
        "target": image("blue"),
        "source_time_s": index / 2,
        "target_time_s": (index + 1) / 2,
        "action": f"move {index}",
        "action_logprob": -0.5 * index,
        "action_tokens": 2,
        "finish_reason": "stop",
        "importance": [np.float16(value) for value in range(GRID[0] * GRID[1])],
        "source_codes": list(range(GRID[0] * GRID[1])),
        "target_codes": list(range(GRID[0] * GRID[1])),
        "motion": 1.5,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def outcome(clip: Clip, ending: Ending, message: str = "") -> ClipOutcome:
    if isinstance(ending, int):
        return ClipOutcome(clip.clip_id, Status.KEPT, ending)
    status = Status.REJECTED if isinstance(ending, RejectCode) else Status.DROPPED
    return ClipOutcome(clip.clip_id, status, reason=ending, message=message)


def run_of(clips: Sequence[Clip], **config: Any) -> Run:
    return Run(
        version="0.0.1",
        config=config,
        models={"dynamics": "weights-of-tests"},
        codec_id="codec-of-tests",
        grid=GRID,
        plan=plan_digest(clips),
    )


def commit(
    dataset: str, unit: WorkUnit, endings: Mapping[str, Ending], stages: Sequence[StageTime] = ()
) -> bool:
    """Commit a unit whose clips have these outcomes, by clip id."""
    ends = [outcome(clip, endings[clip.clip_id]) for clip in unit.clips]
    counts = zip(unit.clips, ends, strict=True)
    rows = [row(clip, index) for clip, end in counts for index in range(end.num_triplets)]
    return write_unit(dataset, unit, table(rows), ends, stages)


def build(
    dataset: str,
    endings: Sequence[Ending],
    clips_per_unit: int = 2,
    pending: int = 0,
    likelihoods: Histogram | None = None,
) -> list[WorkUnit]:
    """A dataset with one clip per ending; its last `pending` units are not committed."""
    clips = [clip(str(index)) for index in range(len(endings))]
    run = replace(run_of(clips), likelihoods=likelihoods)
    units = plan_units(clips, clips_per_unit, run.fingerprint)
    bind(dataset, run)
    write_plan(dataset, units)
    by_clip = {clip.clip_id: ending for clip, ending in zip(clips, endings, strict=True)}
    for unit in units[: len(units) - pending]:
        assert commit(dataset, unit, by_clip)
    return units


def flip_a_bit(dataset: str) -> None:
    """Flip a bit in an image of the first unit, which leaves the structure of the Parquet file intact."""
    path = Path(unit_uri(dataset, next(iter(Plan(plan_uri(dataset)).clips_by_unit))))
    data = bytearray(path.read_bytes())
    data[data.index(b"JFIF") + 300] ^= 1
    path.write_bytes(data)
