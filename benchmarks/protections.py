"""Labelled pairs/s with the protections on, against off, in one process; one line of JSON.

The same units are decoded, labelled and committed with each in turn. On: paths are checked, a sandboxed
process decodes, and a unit has digests and checksums, is synced and linked into place. Off: the same
decoder in this process and a plain Parquet file. The first unit of each turn is a warm-up. Neither uses
Ray, whose cost `pipeline.py` measures; its token and the attempt counts cost nothing for each clip.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pipeline import RESOURCES, Corpus, draw

from kinescribe.labeling.annotate import Annotator
from kinescribe.labeling.extract import PairExtractor
from kinescribe.labeling.inputs import forbidden
from kinescribe.media.decode_protocol import DecodeRequest
from kinescribe.media.frame_pairs import frame_pairs
from kinescribe.models.registry import load_labeller
from kinescribe.schemas.clips import Clip, ExtractedClip, WorkUnit
from kinescribe.schemas.config import LabelConfig
from kinescribe.schemas.outcomes import ClipOutcome, DropReason, Status
from kinescribe.storage.shards import write_unit

Extract = Callable[[Clip], ExtractedClip]
Commit = Callable[[WorkUnit, pa.Table, Sequence[ClipOutcome]], object]


class Turn(NamedTuple):
    """Seconds and pairs of one turn; `decode_s` is the part that extraction took."""

    seconds: float
    decode_s: float
    pairs: int


def protected(corpus: Corpus, out: Path, config: LabelConfig, annotator: Annotator) -> Turn:
    may_not = partial(forbidden, root=corpus.folder)
    extractor = PairExtractor(config.limits, config.keyframes, config.image, may_not, quality=config.quality)
    try:
        return turn(corpus, annotator, extractor.extract, partial(write_unit, str(out)))
    finally:
        extractor.close()


def bare(corpus: Corpus, out: Path, config: LabelConfig, annotator: Annotator) -> Turn:
    def extract(clip: Clip) -> ExtractedClip:
        path, image = Path(clip.uri), config.image
        job = DecodeRequest(
            task="pairs", path=path, limits=config.limits, keyframes=config.keyframes, image=image
        )
        reply = frame_pairs(job)
        if reply.pairs:
            return ExtractedClip(clip, reply.frames, reply.pairs)
        return ExtractedClip(
            clip, outcome=ClipOutcome(clip.clip_id, Status.DROPPED, reason=DropReason.STATIC)
        )

    def commit(unit: WorkUnit, table: pa.Table, _outcomes: Sequence[ClipOutcome]) -> None:
        pq.write_table(table, out / f"{unit.unit_id}.parquet", compression="none")

    out.mkdir()
    return turn(corpus, annotator, extract, commit)


def turn(corpus: Corpus, annotator: Annotator, extract: Extract, commit: Commit) -> Turn:
    totals = [Turn(0.0, 0.0, 0)]
    for unit in corpus.units:
        started = time.perf_counter()
        extracted = [extract(clip) for clip in unit.clips]
        decoded = time.perf_counter()
        table, outcomes = annotator.annotate(extracted)
        commit(unit, table, outcomes)
        totals.append(Turn(time.perf_counter() - started, decoded - started, table.num_rows))
    return Turn(*map(sum, zip(*totals[2:], strict=True)))


def measure(folder: Path, num_clips: int, rounds: int, config: LabelConfig) -> dict[str, object]:
    corpus = draw(folder, num_clips, config)
    annotator = Annotator(*load_labeller(config), config.annotation, RESOURCES.micro_batch, config.quality)
    turns = [
        (
            protected(corpus, folder / f"on{round}", config, annotator),
            bare(corpus, folder / f"off{round}", config, annotator),
        )
        for round in range(rounds)
    ]
    assert all(on.pairs == off.pairs for on, off in turns), turns
    ratios = [off.seconds / on.seconds for on, off in turns]
    return {
        "on_pairs_per_s": round(statistics.median(on.pairs / on.seconds for on, _ in turns), 2),
        "off_pairs_per_s": round(statistics.median(off.pairs / off.seconds for _, off in turns), 2),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "decoding_alone_ratio": round(statistics.median(off.decode_s / on.decode_s for on, off in turns), 3),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="embedded", help="'embedded' or a model folder")
    options.add_argument("--clips", type=int, default=256)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    cv2.setNumThreads(1)  # as in the sandbox
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), chosen.clips, chosen.rounds, LabelConfig(dynamics=chosen.model))
    machine = f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores"
    about = {"benchmark": "protections", "machine": machine, "model": chosen.model, "clips": chosen.clips}
    print(json.dumps(about | figures))


if __name__ == "__main__":
    main()
