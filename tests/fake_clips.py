"""Extracted clips without videos: frames of coloured noise that depend only on the clip's name."""

import io
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import ray
from PIL import Image

from kinescribe.labeling.extract import PairExtractor
from kinescribe.schemas.clips import Clip, ExtractedClip, FramePair, KeyFrame, WorkUnit, stable_id
from kinescribe.schemas.outcomes import ClipOutcome, DropReason, RejectCode, Status


def clip(name: str) -> Clip:
    return Clip(stable_id(name), name)


def image(name: str, index: int) -> bytes:
    random = np.random.default_rng(int(stable_id(name, index)[:8], 16))
    small = Image.fromarray(random.integers(0, 256, (4, 5, 3), np.uint8))
    buffer = io.BytesIO()
    small.resize((40, 32)).save(buffer, "png")
    return buffer.getvalue()


def extracted(name: str, num_frames: int = 3) -> ExtractedClip:
    frames = tuple(KeyFrame(index * 0.8, image(name, index)) for index in range(num_frames))
    pairs = tuple(FramePair(index, index + 1, 2.5) for index in range(num_frames - 1))
    return ExtractedClip(clip(name), frames, pairs, {"static": 1})


def rejected(name: str) -> ExtractedClip:
    outcome = ClipOutcome(clip(name).clip_id, Status.REJECTED, reason=RejectCode.UNREADABLE, message="no")
    return ExtractedClip(clip(name), outcome=outcome)


def dropped(name: str) -> ExtractedClip:
    outcome = ClipOutcome(clip(name).clip_id, Status.DROPPED, reason=DropReason.STATIC)
    return ExtractedClip(clip(name), outcome=outcome)


UNIT_ID = stable_id("unit")


def unit(*clips: ExtractedClip) -> WorkUnit:
    return WorkUnit(UNIT_ID, tuple(one.clip for one in clips))


class FakeExtractor(PairExtractor):
    """Does what the name of a clip's file begins with; other clips get two pairs of noise."""

    def __init__(self, config: object, root: str) -> None:
        self.config, self.root = config, root

    def duration_s(self, clip: Clip) -> float | None:
        return None

    def close(self) -> None:
        pass

    def extract(self, clip: Clip) -> ExtractedClip:
        name = Path(clip.uri).stem
        if name.startswith("poison"):
            os._exit(9)
        if name.startswith("bad"):
            outcome = ClipOutcome(clip.clip_id, Status.REJECTED, reason=RejectCode.UNREADABLE)
            return ExtractedClip(clip, outcome=outcome)
        if name.startswith("slow"):
            time.sleep(0.3)
        made = extracted(name)
        frames = (KeyFrame(0.0, b"no image"), *made.frames[1:]) if name.startswith("torn") else made.frames
        return ExtractedClip(clip, frames, made.pairs)


class SlowExtractor(FakeExtractor):
    """Takes so long for a clip that machines that join meanwhile get some work."""

    def extract(self, clip: Clip) -> ExtractedClip:
        time.sleep(1.5)
        return super().extract(clip)


class LargeExtractor(FakeExtractor):
    """Makes clips so large that a unit doesn't fit into a small object store."""

    size_bytes = 60 << 20

    def extract(self, clip: Clip) -> ExtractedClip:
        made = super().extract(clip)
        frames = (
            replace(made.frames[0], image=made.frames[0].image + bytes(self.size_bytes)),
            *made.frames[1:],
        )
        return replace(made, frames=frames)


class EagerExtractor(LargeExtractor):
    """Makes clips of 4 MiB at once, and leaves a file for each beside the folder of the clips."""

    size_bytes = 4 << 20

    def extract(self, clip: Clip) -> ExtractedClip:
        made = super().extract(clip)
        decoded = Path(clip.uri).parents[1] / "decoded"
        decoded.mkdir(exist_ok=True)
        (decoded / clip.clip_id).touch()
        return made


class MendedExtractor(FakeExtractor):
    """Finds no clip bad, as if the input had been mended."""

    def extract(self, clip: Clip) -> ExtractedClip:
        made = extracted(Path(clip.uri).stem)
        return ExtractedClip(clip, made.frames, made.pairs)


class StillbornExtractor(FakeExtractor):
    """Kills the worker that creates it, as Ray does when memory runs short."""

    def __init__(self, config: object, root: str) -> None:
        super().__init__(config, root)
        if ray.get_runtime_context().get_actor_id():
            os._exit(9)
