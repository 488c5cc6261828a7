"""A labelled dataset for training: random codes, an action that they determine, small real images."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from kinescribe.schemas.clips import Clip, WorkUnit, stable_id
from kinescribe.schemas.dataset import triplet_schema
from kinescribe.schemas.outcomes import ClipOutcome, Status
from kinescribe.storage.plan import plan_digest, write_plan
from kinescribe.storage.run import Run, bind
from kinescribe.storage.shards import write_unit

ACTIONS = ("move the red ball left", "move the red ball right")
LABELLED = {"action_logprob": -1.5, "action_tokens": 6, "finish_reason": "stop"}
"""The columns of rows with an action that a model wrote."""


def write_triplets(
    folder: str,
    num: int,
    codec_id: str,
    num_codes: int = 16,
    side: int = 4,
    optional: Sequence[str] = (),
    **columns: Any,
) -> None:
    """`num` triplets in one unit; a target's first code is odd where the ball moves right.

    `columns` are values that all rows have instead, also in the `optional` columns.
    """
    clip = Clip(stable_id(folder), folder)
    unit = WorkUnit(stable_id("unit", num), (clip,))
    random = np.random.default_rng(num)
    rows = [_row(clip, index, random, num_codes, side * side) | columns for index in range(num)]
    bind(folder, Run("0", {}, {}, codec_id, (side, side), plan_digest([clip])))
    write_plan(folder, [unit])
    table = pa.Table.from_pylist(rows, triplet_schema(codec_id, (side, side), optional))
    write_unit(folder, unit, table, [ClipOutcome(clip.clip_id, Status.KEPT, num)])


def _row(clip: Clip, index: int, random: np.random.Generator, num_codes: int, length: int) -> dict:
    target = random.integers(0, num_codes, length)
    return {
        "triplet_id": stable_id(clip.clip_id, index),
        "clip_id": clip.clip_id,
        "video": clip.uri,
        "source": {"bytes": _image(random), "path": None},
        "target": {"bytes": _image(random), "path": None},
        "source_time_s": float(index),
        "target_time_s": index + 0.5,
        "action": ACTIONS[target[0] % 2],
        "importance": random.random(length).astype(np.float16),
        "source_codes": random.integers(0, num_codes, length).astype(np.uint16),
        "target_codes": target.astype(np.uint16),
    }


def _image(random: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    blocks = random.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((40, 48)).save(buffer, "JPEG")
    return buffer.getvalue()
