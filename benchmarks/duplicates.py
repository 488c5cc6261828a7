"""Time, memory, recall and precision of `curate --duplicates near`, as JSON.

Each clip is encoded again in several ways, the same frame pairs are taken of each copy, and the
copies found are counted: one that isn't found costs recall, two pairs of different moments in one group cost
precision. With `--rows`, such copies are hidden among as many rows as asked for, of random hashes, and time
and memory are those of the search alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import compress, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from kinescribe.labeling.duplicates import MIRRORED, Hashes, duplicate_groups
from kinescribe.media.decode import open_video
from kinescribe.media.motion import pair_motion
from kinescribe.media.quality import change_hash, hashable, perceptual_hash
from kinescribe.media.still_images import Rgb, shrunk, small_grey
from kinescribe.schemas.config import KeyFrames

PAIRS_PER_CLIP = 5
GAP_S = 1.0
"""Between the frames of a pair."""
NUM_MADE = 12
COPIES_OF_EACH = 0.02
"""The share of the hidden rows that each kind of copy has a copy of."""


class Copy(NamedTuple):
    """How a clip is encoded again."""

    codec: str
    options: Mapping[str, str]
    scale: float = 1.0
    crop: float = 0.0
    mirrored: bool = False


COPIES = {
    "low bitrate": Copy("libx264", {"crf": "36", "preset": "ultrafast"}),
    "half size": Copy("libx264", {"crf": "25", "preset": "ultrafast"}, scale=0.5),
    "MPEG-4": Copy("mpeg4", {"qmin": "8", "qmax": "8"}),
    "VP8": Copy("libvpx", {"deadline": "realtime", "cpu-used": "10", "b": "600k"}),
    "cropped": Copy("libx264", {"crf": "25", "preset": "ultrafast"}, crop=0.05),
    "mirrored": Copy("libx264", {"crf": "25", "preset": "ultrafast"}, mirrored=True),
    "all of it": Copy("libx264", {"crf": "30", "preset": "ultrafast"}, 0.6, 0.05, True),
}


def make_clip(path: Path, seed: int) -> Path:
    """A slow pan over a picture with the spectrum of natural ones, and a moving disc, a frame a second."""
    random = np.random.default_rng(seed)
    wide = np.zeros((240, 400, 3), np.float32)
    for side in (2, 4, 8, 16, 32, 64):
        coarse = random.normal(0, 100 / side, (side, 2 * side, 3)).astype(np.float32)
        wide += cv2.resize(coarse, (400, 240), interpolation=cv2.INTER_CUBIC)
    places = random.integers((0, 40), (320, 200), (PAIRS_PER_CLIP + 1, 2))
    shades = np.clip(128 + wide, 0, 255).astype(np.uint8)
    frames = [np.ascontiguousarray(shades[:, 8 * at : 8 * at + 320]) for at in range(len(places))]
    for frame, place in zip(frames, places.tolist(), strict=True):
        cv2.circle(frame, place, 40, (30, 200, 90), -1)
    encoded_again(frames, COPIES["mirrored"], path)
    return path


def frames_of(path: Path) -> list[Rgb]:
    """The frames at the ends of a clip's pairs."""
    frames: list[Rgb] = []
    with open_video(path) as video:
        for frame in video.frames():
            if frame.time_s >= GAP_S * len(frames):
                frames.append(frame.rgb(512))
            if len(frames) > PAIRS_PER_CLIP:
                break
    return frames


def changed(frames: Sequence[Rgb], copy: Copy, random: np.random.Generator) -> list[Rgb]:
    """The frames cropped, scaled and mirrored, in even sizes."""
    height, width = frames[0].shape[:2]
    kept = 1 - copy.crop
    top, left = (round(random.random() * copy.crop * side) for side in (height, width))
    parts = [frame[top : top + round(kept * height), left : left + round(kept * width)] for frame in frames]
    size = [max(2, round(kept * side * copy.scale) // 2 * 2) for side in (width, height)]
    parts = [part[:, ::-1] if copy.mirrored else part for part in parts]
    return [
        np.asarray(cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_AREA), np.uint8)
        for part in parts
    ]


def encoded_again(frames: Sequence[Rgb], copy: Copy, path: Path) -> list[Rgb]:
    """The frames after lossy coding."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(copy.codec, rate=1, options=dict(copy.options))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    with open_video(path) as video:
        return [frame.rgb(512) for frame in video.frames()]


def hashes_of(frames: Sequence[Rgb]) -> list[NDArray[np.uint64]]:
    """The hashes of each pair of adjacent frames, shape (3, 2)."""
    greys = [small_grey(shrunk(frame, 512)) for frame in frames]
    whole = [perceptual_hash(hashable(grey)) for grey in greys]
    changes = [change_hash(*pair) for pair in pairwise(greys)]
    rows = zip(whole, whole[1:], changes, strict=False)
    return [np.frombuffer(b"".join(row), np.uint64).reshape(3, 2) for row in rows]


def corpus(paths: Sequence[Path], folder: Path) -> dict[str, list[list[NDArray[np.uint64]]]]:
    """For the clips and each kind of copy of them, the hashes of each clip's pairs, without static ones."""
    random = np.random.default_rng(0)
    rows: dict[str, list[list[NDArray[np.uint64]]]] = {kind: [] for kind in ("original", *COPIES)}
    for path in paths:
        if len(frames := frames_of(path)) < 2:
            continue
        greys = [small_grey(frame) for frame in frames]
        moves = [pair_motion(*pair) >= KeyFrames().min_motion for pair in pairwise(greys)]
        rows["original"].append(list(compress(hashes_of(frames), moves)))
        for kind, copy in COPIES.items():
            again = encoded_again(changed(frames, copy, random), copy, folder / "copy.mkv")
            rows[kind].append(list(compress(hashes_of(again), moves)))
    return rows


def found_copies(rows: Mapping[str, list[list[NDArray[np.uint64]]]]) -> dict[str, Any]:
    """Recall by kind of copy, and precision: the share of the pairs in one group that are copies."""
    flat = [
        (kind, clip, pair, hashes)
        for kind, clips in rows.items()
        for clip, pairs in enumerate(clips)
        for pair, hashes in enumerate(pairs)
    ]
    places = {(kind, clip): number for number, (kind, clip) in enumerate({row[:2]: 0 for row in flat})}
    clips = np.array([places[row[:2]] for row in flat])
    groups = duplicate_groups(np.array([row[3] for row in flat]), clips)
    group_of = {row[:3]: group for row, group in zip(flat, groups, strict=True)}
    recall = {
        kind: np.mean(
            [group_of[row[:3]] == group_of["original", *row[1:3]] for row in flat if row[0] == kind]
        )
        for kind in COPIES
    }
    moments = np.array([hash(row[1:3]) for row in flat])
    together = groups[:, None] == groups
    np.fill_diagonal(together, val=False)
    right = (moments[:, None] == moments) & together
    return {
        "pairs": len(flat),
        "recall": {kind: round(float(share), 4) for kind, share in recall.items()},
        "recall_of_all": round(float(np.mean(list(recall.values()))), 4),
        "precision": round(float(right.sum() / together.sum()), 4),
    }


def hidden(rows: Mapping[str, list[list[NDArray[np.uint64]]]], num_rows: int) -> dict[str, Any]:
    """Time, memory and recall of the search for copies among random rows."""
    random = np.random.default_rng(0)
    originals = np.array([pair for clip in rows["original"] for pair in clip])
    hashes = random.integers(0, 2**64, (num_rows, 3, 2), np.uint64)
    changes = originals[:, 0] ^ originals[:, 1]
    hashes[:, 1] = hashes[:, 0] ^ changes[random.integers(0, len(changes), num_rows)]
    num = max(1, round(num_rows * COPIES_OF_EACH))
    kinds = {kind: random.permutation(num_rows)[:num] for kind in COPIES}
    copies = [
        _copied(
            hashes[chosen], originals, np.array([pair for clip in rows[kind] for pair in clip]), kind, random
        )
        for kind, chosen in kinds.items()
    ]
    everything = np.concatenate([hashes, *copies])
    del hashes, copies
    clips = np.arange(len(everything), dtype=np.uint64)
    clips[:num_rows] //= PAIRS_PER_CLIP
    began, used = time.perf_counter(), time.process_time()
    groups = duplicate_groups(everything, clips)
    seconds, processor_s = time.perf_counter() - began, time.process_time() - used
    recall = {
        kind: round(float((groups[num_rows + place * num :][:num] == groups[chosen]).mean()), 4)
        for place, (kind, chosen) in enumerate(kinds.items())
    }
    return {
        "rows": len(everything),
        "seconds": round(seconds, 1),
        "processor_s": round(processor_s, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20), 2),
        "recall": recall,
        "recall_of_all": round(float(np.mean(list(recall.values()))), 4),
        "groups": int(groups.max()) + 1,
    }


def _copied(
    hashes: Hashes, originals: Hashes, copies: Hashes, kind: str, random: np.random.Generator
) -> Hashes:
    """The hashes with the bits flipped that a real copy of this kind flips."""
    flips = originals ^ copies
    if COPIES[kind].mirrored:
        flips = flips ^ MIRRORED
    drawn = flips[random.integers(0, len(flips), len(hashes))]
    return hashes ^ drawn ^ (MIRRORED if COPIES[kind].mirrored else np.zeros_like(MIRRORED))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path, help="video files; made here if none are given")
    parser.add_argument("--rows", nargs="*", type=int, default=[100_000], help="sizes of larger corpora")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    machine = f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores"
    with tempfile.TemporaryDirectory(prefix="kinescribe-") as folder:
        clips = options.clips or [make_clip(Path(folder, f"{seed}.mkv"), seed) for seed in range(NUM_MADE)]
        rows = corpus(clips, Path(folder))
    line = {"benchmark": "duplicates", "machine": machine}
    print(json.dumps(line | {"clips": len(rows["original"])} | found_copies(rows)), flush=True)
    for num_rows in options.rows:
        print(json.dumps(line | hidden(rows, num_rows)), flush=True)


if __name__ == "__main__":
    main()
