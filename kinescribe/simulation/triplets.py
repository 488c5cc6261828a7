"""Labelled triplets of the simulated world as a dataset, to train a dynamics model on.

A chain of changes in one scene is one clip of the dataset. Each change is a triplet, and so is its inverse
with the frames swapped. Splits and seeds never share a draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
from numpy.random import Generator
from PIL import Image as PILImage

from kinescribe.models.codec import ImageCodec
from kinescribe.schemas.clips import Clip, WorkUnit, stable_id
from kinescribe.schemas.dataset import triplet_schema
from kinescribe.schemas.outcomes import ClipOutcome, Status
from kinescribe.schemas.rendering import Progress
from kinescribe.schemas.version import VERSION
from kinescribe.simulation.actions import CAMERA
from kinescribe.simulation.corruptions import (
    ROUGH_SHARE,
    compressed,
    decompressed,
    disturbances,
    draw_recording,
    record,
)
from kinescribe.simulation.scene import SHAPES, Image
from kinescribe.simulation.transitions import Change, draw_change, draw_scene
from kinescribe.storage.plan import plan_digest, write_plan
from kinescribe.storage.run import Run, bind
from kinescribe.storage.shards import committed_units, write_unit

Split = Literal["train", "test"]
_SPLITS: dict[Split, int] = {"train": 1, "test": 2}
_OBJECT_WEIGHTS = {"move": 5.0, "add": 3.0, "resize": 3.0, "turn": 2.0, "paint": 2.0}
CHANGES_PER_CHAIN = 8
CHAINS_PER_UNIT = 64
TRIPLETS_PER_UNIT = 2 * CHANGES_PER_CHAIN * CHAINS_PER_UNIT
_RENDER_SIDE = 128


class Draw(NamedTuple):
    """What is drawn, and how often."""

    camera_weight: float = 2.0
    """How often each camera motion is tried, relative to 5 for moving an object."""
    rough_share: float = ROUGH_SHARE
    """The share of chains that are shaky, flickering and noisy."""
    shapes: tuple[str, ...] = SHAPES
    """The shapes of objects."""


USUAL = Draw()


class Chain(NamedTuple):
    """N + 1 frames and the N changes between them."""

    frames: list[Image]
    changes: list[Change]


def split_rng(split: Split, seed: int, index: int) -> Generator:
    """The random generator of one draw; each (split, seed, index) has its own stream."""
    return np.random.default_rng([_SPLITS[split], seed, index])


def draw_chain(rng: Generator, num_changes: int = CHANGES_PER_CHAIN, draw: Draw = USUAL) -> Chain:
    """A scene and successive changes of it, recorded with one set of disturbances."""
    recording = draw_recording(rng, draw.rough_share)
    scene = draw_scene(rng, draw.shapes)
    changes: list[Change] = []
    weights = _OBJECT_WEIGHTS | dict.fromkeys(CAMERA, draw.camera_weight)
    names, odds = list(weights), np.array(list(weights.values()))
    while len(changes) < num_changes:
        change = draw_change(rng, scene, str(rng.choice(names, p=odds / odds.sum())))
        if change is not None:
            changes.append(change)
            scene = change.after
    states = [changes[0].before, *(change.after for change in changes)]
    frames: list[Image] = []
    for state, frame in zip(states, disturbances(recording, len(states), rng, 0.0), strict=True):
        image = record(state, _RENDER_SIDE, recording, frame, rng)
        frames.append(decompressed(compressed(image, recording.jpeg_quality)))
    return Chain(frames, changes)


def write_triplets(
    dataset: str,
    num_triplets: int,
    split: Split,
    seed: int,
    codec: ImageCodec | None,
    side: int = 64,
    draw: Draw = USUAL,
    progress: Progress = lambda done, total: None,
) -> None:
    """Write at least `num_triplets` to the dataset folder, in whole units. Run again to resume.

    Without a codec, codes and importance are null, which is enough to train a codec. Images are stored at
    `side` pixels.
    """
    num_units = -(-num_triplets // TRIPLETS_PER_UNIT)
    codec_id, grid = (codec.id, codec.grid) if codec else ("none", (0, 0))
    config: dict[str, Any] = {"world": "simulated", "split": split, "seed": seed, "units": num_units}
    config |= {"side": side, **draw._asdict()}
    units = [_unit(split, seed, index) for index in range(num_units)]
    digest = plan_digest(clip for unit in units for clip in unit.clips)
    bind(dataset, Run(VERSION, config, {}, codec_id, grid, digest))
    write_plan(dataset, units)
    done = committed_units(dataset)
    for index, unit in enumerate(units):
        if unit.unit_id not in done:
            rngs = (
                split_rng(split, seed, index * CHAINS_PER_UNIT + place) for place in range(CHAINS_PER_UNIT)
            )
            chains = (draw_chain(rng, draw=draw) for rng in rngs)
            table = _unit_table(unit, chains, codec, side)
            outcomes = [ClipOutcome(c.clip_id, Status.KEPT, 2 * CHANGES_PER_CHAIN) for c in unit.clips]
            write_unit(dataset, unit, table, outcomes)
        progress(index + 1, num_units)


def _unit(split: Split, seed: int, index: int) -> WorkUnit:
    first = index * CHAINS_PER_UNIT
    uris = [f"simulated://{split}/{seed}/{first + chain}" for chain in range(CHAINS_PER_UNIT)]
    return WorkUnit(stable_id("simulated", *uris), tuple(Clip(stable_id(uri), uri) for uri in uris))


def _unit_table(unit: WorkUnit, chains: Iterable[Chain], codec: ImageCodec | None, side: int) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for clip, chain in zip(unit.clips, chains, strict=True):
        rows += _chain_rows(clip, chain, codec, side)
    codec_id, grid = (codec.id, codec.grid) if codec else ("none", (0, 0))
    return pa.Table.from_pylist(rows, triplet_schema(codec_id, grid))


def _chain_rows(clip: Clip, chain: Chain, codec: ImageCodec | None, side: int) -> Iterator[dict[str, Any]]:
    small = [cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in chain.frames]
    stored = [compressed(frame.astype(np.uint8, copy=False), 95) for frame in small]
    codes, importance = _encode(codec, stored)
    for i, change in enumerate(chain.changes):
        action_class = change.action.verb
        for s, t, action in ((i, i + 1, change.action), (i + 1, i, change.action.inverse())):
            yield {
                "triplet_id": stable_id(clip.clip_id, s, t),
                "clip_id": clip.clip_id,
                "video": clip.uri,
                "action_class": action_class,
                "source": {"bytes": stored[s], "path": None},
                "target": {"bytes": stored[t], "path": None},
                "source_time_s": float(s),
                "target_time_s": float(t),
                "action": str(action),
                "importance": importance[i],
                "source_codes": codes[s],
                "target_codes": codes[t],
            }


def _encode(codec: ImageCodec | None, stored: Sequence[bytes]) -> tuple[list[Any], list[Any]]:
    """The codes of each frame, and the importance between successive frames; all None without a codec."""
    if codec is None:
        return [None] * len(stored), [None] * (len(stored) - 1)
    images = [PILImage.fromarray(decompressed(data)) for data in stored]
    encoded = codec.encode(codec.preprocess(images))
    weights_BL = codec.importance(encoded.features_BLC[:-1], encoded.features_BLC[1:]).half()
    return list(encoded.stored_BL), list(weights_BL.numpy())
