"""Unlabelled clips of the simulated world as H.264 files, and their ground truth.

The only importer of PyAV in this package, which it only writes with. A clip's folder is its action class. The
true actions and their times go to `truth.jsonl`, outside the folder with the clips.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from numpy.random import Generator

from kinescribe.schemas.errors import ConfigError, InputError
from kinescribe.schemas.rendering import Progress
from kinescribe.simulation.corruptions import Recording, disturbances, draw_recording, record
from kinescribe.simulation.scene import SHAPES, Image, Scene
from kinescribe.simulation.transitions import CLASSES, Change, between, draw_change, draw_scene
from kinescribe.simulation.triplets import Split, split_rng
from kinescribe.storage import objects

CLIPS, TRUTH = "clips", "truth.jsonl"
STEP_VERBS = ("add", "remove", "paint")
POWER = 1.8
"""The progress of an action is the elapsed share of its segment to this power: it accelerates, then stops."""
CUT_SHARE = 0.15
_FRAMES_PER_SEGMENT = (24, 44)
_REST_FRAMES = (4, 12)


@dataclass(frozen=True, slots=True)
class Segment:
    """One action of a clip, with start and end in seconds of presentation time."""

    start_s: float
    end_s: float
    action: str
    sudden: bool
    """Whether it happens at once at `end_s` (add, remove, paint) instead of gradually."""

    def progress(self, time_s: float) -> float:
        """The completed share of the action at `time_s`, from 0 to 1."""
        if self.sudden:
            return float(time_s >= self.end_s - 1e-6)
        share = (time_s - self.start_s) / (self.end_s - self.start_s)
        return min(max(share, 0.0), 1.0) ** POWER


@dataclass(frozen=True, slots=True)
class Truth:
    """The true content of one clip; `video` is its path below the folder of clips."""

    video: str
    action_class: str
    segments: tuple[Segment, ...]
    cuts_s: tuple[float, ...]


class _Shot(NamedTuple):
    """The scene of every frame of one shot, and its segments in frame numbers."""

    scenes: list[Scene]
    spans: list[tuple[int, int, Change]]


def write_clips(
    folder: Path,
    num_clips: int,
    split: Split,
    seed: int,
    side: int = 128,
    shapes: tuple[str, ...] = SHAPES,
    progress: Progress = lambda done, total: None,
) -> list[Truth]:
    """Write `folder/clips/CLASS/NAME.mp4` and `folder/truth.jsonl`. The same seed gives the same files.

    Raises ConfigError before anything is drawn if the folder has clips or a truth of anything else.
    """
    videos = [f"{CLASSES[index % len(CLASSES)]}/{split}-{seed}-{index:06d}.mp4" for index in range(num_clips)]
    _claim(folder, videos)
    truths: list[Truth] = []
    for index, video in enumerate(videos):
        truths.append(_write_clip(folder / CLIPS, video, split_rng(split, seed, 2**32 + index), side, shapes))
        progress(index + 1, num_clips)
    lines = [json.dumps(asdict(truth), ensure_ascii=False) + "\n" for truth in truths]
    objects.replace(str(folder / TRUTH), "".join(lines).encode())
    return truths


def _claim(folder: Path, videos: Sequence[str]) -> None:
    """Create the folders. Raises ConfigError if that fails, or if other files would be lost or mixed in.

    Clips that an interrupted run of the same command has left are drawn again.
    """
    clips, truth = folder / CLIPS, folder / TRUTH
    found = {path.relative_to(clips).as_posix() for path in clips.rglob("*") if not path.is_dir()}
    if other := min(found - {*videos}, default=None):
        raise ConfigError(f"{clips} contains {other}, which is not of this run; choose an empty folder")
    if truth.exists() and _videos(folder) != list(videos):
        raise ConfigError(f"{folder} contains a {TRUTH} of something else; choose an empty folder")
    try:
        for action_class in {video.partition("/")[0] for video in videos}:
            (clips / action_class).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error}; choose another folder") from error


def _videos(folder: Path) -> list[str]:
    """The clips in the folder's truth; none if the file is something else."""
    try:
        return list(read_truth(folder))
    except InputError:
        return []


def read_truth(folder: Path) -> dict[str, Truth]:
    """The truths that `write_clips` wrote to `folder`, by the clip's path below `clips/`."""
    try:
        lines = (folder / TRUTH).read_text("utf-8").splitlines()
        return {truth.video: truth for truth in map(_truth, lines)}
    except OSError as error:
        raise InputError(
            f"{folder}/{TRUTH} cannot be read ({error.strerror}); name an output of `simulate clips`"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}/{TRUTH} is damaged ({error!r}); run `simulate clips` again") from error


def _truth(line: str) -> Truth:
    values = json.loads(line)
    segments = tuple(Segment(**segment) for segment in values.pop("segments"))
    return Truth(**values | {"segments": segments, "cuts_s": tuple(values["cuts_s"])})


def _write_clip(folder: Path, video: str, rng: Generator, side: int, shapes: tuple[str, ...]) -> Truth:
    action_class = video.partition("/")[0]
    fps = int(rng.choice((20, 24, 25, 30)))
    recording = draw_recording(rng)
    shots = [_draw_shot(rng, action_class, shapes) for _ in range(2 if rng.random() < CUT_SHARE else 1)]
    _encode(folder / video, _frames(shots, recording, side, rng), fps, side, crf=int(rng.integers(17, 28)))
    starts = [sum(len(shot.scenes) for shot in shots[:i]) for i in range(len(shots))]
    segments = tuple(
        Segment((at + first) / fps, (at + last) / fps, str(change.action), change.action.verb in STEP_VERBS)
        for at, shot in zip(starts, shots, strict=True)
        for first, last, change in shot.spans
    )
    return Truth(video, action_class, segments, tuple(start / fps for start in starts[1:]))


def _draw_shot(rng: Generator, action_class: str, shapes: tuple[str, ...]) -> _Shot:
    """Two to four successive actions of one class, with a short pause after each."""
    while True:
        # Drawn again with each scene, since three objects can't be removed from a scene of two.
        num_actions = int(rng.integers(2, 5))
        scene = draw_scene(rng, shapes)
        scenes = [scene] * int(rng.integers(*_REST_FRAMES))
        spans: list[tuple[int, int, Change]] = []
        for _ in range(60):
            change = draw_change(rng, scene, action_class)
            if change is None:
                continue
            length = int(rng.integers(*_FRAMES_PER_SEGMENT))
            first = len(scenes) - 1
            scenes += [between(change, (step / length) ** POWER) for step in range(1, length + 1)]
            spans.append((first, first + length, change))
            scene = change.after
            scenes += [scene] * int(rng.integers(*_REST_FRAMES))
            if len(spans) == num_actions:
                return _Shot(scenes, spans)


def _frames(shots: Sequence[_Shot], recording: Recording, side: int, rng: Generator) -> Iterator[Image]:
    for shot in shots:
        drawn = disturbances(recording, len(shot.scenes), rng, persistence=0.9)
        for scene, disturbance in zip(shot.scenes, drawn, strict=True):
            yield record(scene, side, recording, disturbance, rng)


def _encode(path: Path, frames: Iterator[Image], fps: int, side: int, crf: int) -> None:
    """Encode H.264 on one thread, so that the same encoder writes the same bytes on every machine."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": "veryfast"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        stream.codec_context.thread_count = 1
        for index, image in enumerate(frames):
            planes = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8)
            frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
