"""Speed of key-frame extraction, against decoding alone and against dense flow at full size, as JSON.

Extraction can be faster than decoding alone, because it skips frames that no other frame refers to.

All sides run on one core over the same clips, in turns. Processor time is measured, so a busy machine
changes the figures little and the ratios hardly at all. The clips are made here unless paths are given.
Decoding to RGB with decord is measured too, as the alternative decoder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import decord
import numpy as np

from kinescribe.media.decode import open_video
from kinescribe.media.decode_protocol import DecodeRequest
from kinescribe.media.frame_pairs import frame_pairs
from kinescribe.schemas.config import LabelConfig

SIZES = ((320, 240), (640, 480), (1280, 720))
NUM_FRAMES = 150
FULL_SIZE_FRAMES = 20
"""Farneback's flow is so slow that only the start of each clip is measured."""


def make_clip(path: Path, width: int, height: int) -> Path:
    """Two seconds each of a slow pan, a fast pan and a crossing object, with camera noise."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (height // 16, width // 4, 3), np.uint8)
    wide = cv2.resize(coarse, (4 * width, height), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        x = 0.0
        for index in range(NUM_FRAMES):
            x += (width / 600, width / 80, 0.0)[index * 3 // NUM_FRAMES]
            image = wide[:, round(x) : round(x) + width].astype(np.int16)
            centre = (index * 7 % width, height // 2)
            cv2.circle(image, centre, height // 8, (30, 200, 90), -1)
            image += random.normal(0, 3, (height, width, 1)).astype(np.int16)
            picture = av.VideoFrame.from_ndarray(np.clip(image, 0, 255).astype(np.uint8), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 30)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def decode_only(path: Path) -> int:
    with open_video(path) as video:
        return sum(1 for _ in video.frames())


def extract(path: Path) -> int:
    config = LabelConfig()
    job = DecodeRequest(
        task="pairs",
        path=path,
        limits=config.limits,
        keyframes=config.keyframes,
        image=config.image,
        quality=config.quality,
    )
    frame_pairs(job)
    return 0


def decord_to_rgb(path: Path) -> int:
    reader = decord.VideoReader(str(path), num_threads=1)
    for _ in range(len(reader)):
        reader.next().asnumpy()
    return len(reader)


def farneback(path: Path) -> int:
    """Dense flow at full size, decoding included, over the first frames of a clip."""
    previous = None
    with open_video(path) as video:
        for frame in video.frames():
            grey = cv2.cvtColor(frame.rgb(1 << 20), cv2.COLOR_RGB2GRAY)
            if previous is not None:
                cv2.calcOpticalFlowFarneback(previous, grey, None, 0.5, 3, 15, 3, 5, 1.2, 0)
            previous = grey
            if frame.index + 1 == FULL_SIZE_FRAMES:
                return FULL_SIZE_FRAMES
    return frame.index + 1


SIDES: dict[str, Callable[[Path], int]] = {
    "decode_only": decode_only,
    "keyframes": extract,
    "decord_to_rgb": decord_to_rgb,
    "farneback": farneback,
}


def frames_per_s(path: Path, num_rounds: int) -> dict[str, float]:
    """Median over interleaved rounds of every side's frames per second of processor time."""
    num_frames = decode_only(path)
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    counts = dict.fromkeys(SIDES, num_frames)
    for _ in range(num_rounds):
        for side, run in SIDES.items():
            began = time.process_time()
            counts[side] = run(path) or num_frames
            seconds[side].append(time.process_time() - began)
    return {side: counts[side] / statistics.median(seconds[side]) for side in SIDES}


def ratios(speeds: dict[str, float]) -> dict[str, float]:
    return {
        "keyframes_over_decode_only": speeds["keyframes"] / speeds["decode_only"],
        "keyframes_over_farneback": speeds["keyframes"] / speeds["farneback"],
        "decord_over_decode_only": speeds["decord_to_rgb"] / speeds["decode_only"],
    }


def report(paths: list[Path], num_rounds: int) -> dict[str, object]:
    clips: dict[str, dict[str, float]] = {}
    totals = dict.fromkeys(SIDES, 0.0)
    for path in paths:
        speeds = frames_per_s(path, num_rounds)
        clips[path.name] = {**{f"{side}_fps": fps for side, fps in speeds.items()}, **ratios(speeds)}
        weight = decode_only(path)
        for side, fps in speeds.items():
            totals[side] += weight / fps
    overall = {side: 1 / seconds for side, seconds in totals.items()}
    return {
        "benchmark": "keyframes",
        "machine": {"node": platform.node(), "processor": processor(), "platform": platform.platform()},
        "rounds": num_rounds,
        "ratios": ratios(overall),
        "clips": clips,
    }


def processor() -> str:
    """The processor's name, if the system knows it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path, help="video files; made here if none are given")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        made = options.clips or [
            make_clip(Path(folder, f"{width}x{height}.mp4"), width, height) for width, height in SIZES
        ]
        print(json.dumps(report(made, options.rounds), indent=2))


if __name__ == "__main__":
    main()
