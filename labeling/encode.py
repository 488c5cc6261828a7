"""Encodes frame pairs: codes of both frames, importance, and the columns that need no dynamics model.

Knows nothing of actions, which a dynamics model writes or which come with the data.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kinescribe.labeling.batches import MicroBatches
from kinescribe.models.codec import ImageCodec
from kinescribe.models.dynamics import Failure
from kinescribe.models.tokens import Codes
from kinescribe.schemas.clips import ExtractedClip, FramePair, stable_id
from kinescribe.schemas.dataset import IMAGE_FORMATS, quality_columns
from kinescribe.schemas.outcomes import ClipOutcome, RejectCode, Status

LARGEST_FLOAT16 = float(np.finfo(np.float16).max)
MICRO_BATCH = 16
"""Frames in one call of the codec. On a CPU, the embedded one is no faster with more."""


class EncodedFrame(NamedTuple):
    """A key frame as stored, and encoded: codes of shape (L,), pre-quantised features of shape (L, C)."""

    image: bytes
    num_pixels: int
    codes: Codes
    features_LC: torch.Tensor


class EncodedPair(NamedTuple):
    """A pair of one clip with its two encoded frames."""

    extracted: ExtractedClip
    pair: FramePair
    source: EncodedFrame
    target: EncodedFrame

    @property
    def triplet_id(self) -> str:
        frames = self.extracted.frames
        times = (frames[self.pair.source].time_s, frames[self.pair.target].time_s)
        return stable_id(self.extracted.clip.clip_id, *times)


class FrameEncoder:
    """Encodes the frames of a unit with a codec."""

    def __init__(self, codec: ImageCodec, micro_batch: int | None = None) -> None:
        self.codec = codec
        self.batches = MicroBatches(micro_batch or MICRO_BATCH)

    def encode(self, clips: Sequence[ExtractedClip], failures: dict[str, Failure]) -> list[EncodedPair]:
        """The pairs of `clips`, with each distinct frame encoded once for all clips.

        If the codec raises on a frame, the clips that have it are added to `failures`, by id.
        """
        wanted = [(clip, pair) for clip in clips for pair in clip.pairs]
        # By their bytes, because chains of edits share images across clips.
        images = list(dict.fromkeys(image for clip, pair in wanted for image in _images(clip, pair)))
        frames = dict(zip(images, self.batches.run(images, self._encode_images), strict=True))
        pairs: list[EncodedPair] = []
        for clip, pair in wanted:
            source, target = (frames[image] for image in _images(clip, pair))
            if isinstance(source, Failure):
                failures.setdefault(clip.clip.clip_id, source)
            elif isinstance(target, Failure):
                failures.setdefault(clip.clip.clip_id, target)
            else:
                pairs.append(EncodedPair(clip, pair, source, target))
        return [pair for pair in pairs if pair.extracted.clip.clip_id not in failures]

    def row(self, pair: EncodedPair) -> dict[str, Any]:
        """The columns of the pair's triplet that don't depend on its action."""
        clip = pair.extracted.clip
        source, target = (pair.extracted.frames[index] for index in (pair.pair.source, pair.pair.target))
        return {
            "triplet_id": pair.triplet_id,
            "clip_id": clip.clip_id,
            "video": clip.uri,
            "action_class": clip.action_class,
            "source": {"bytes": source.image, "path": None},
            "target": {"bytes": target.image, "path": None},
            "source_time_s": source.time_s,
            "target_time_s": target.time_s,
            "importance": self._importance(pair),
            "source_codes": pair.source.codes,
            "target_codes": pair.target.codes,
            "motion": pair.pair.motion,
            "context": [{"bytes": image, "path": None} for image in pair.pair.context],
            **quality_columns(source.quality, target.quality, pair.pair.change_hash),
        }

    def _encode_images(self, images: Sequence[bytes]) -> list[EncodedFrame]:
        opened = [Image.open(io.BytesIO(image), formats=IMAGE_FORMATS) for image in images]
        encoded = self.codec.encode(self.codec.preprocess(opened))
        num_pixels = [image.width * image.height for image in opened]
        frames = zip(images, num_pixels, encoded.stored_BL, encoded.features_BLC, strict=True)
        return [EncodedFrame(*frame) for frame in frames]

    def _importance(self, pair: EncodedPair) -> NDArray[np.float16]:
        """Weights of the target's tokens, shape (L,), row-major (arXiv:2506.06006, world model training)."""
        source_1LC, target_1LC = pair.source.features_LC[None], pair.target.features_LC[None]
        weights_L = self.codec.importance(source_1LC, target_1LC)[0]
        return weights_L.clamp(max=LARGEST_FLOAT16).half().cpu().numpy()


def _images(clip: ExtractedClip, pair: FramePair) -> tuple[bytes, bytes]:
    return clip.frames[pair.source].image, clip.frames[pair.target].image


def outcome_of(extracted: ExtractedClip, failure: Failure | None) -> ClipOutcome:
    """The clip's outcome: that of its extraction, else rejected if a model failed on it, else kept."""
    if extracted.outcome is not None:
        return extracted.outcome
    clip_id, drops = extracted.clip.clip_id, extracted.pair_drops
    if failure is None:
        num_pairs, notes, message = len(extracted.pairs), extracted.notes, extracted.message
        return ClipOutcome(clip_id, Status.KEPT, num_pairs, None, message, drops, notes)
    code = RejectCode.MODEL_FAILED
    return ClipOutcome(clip_id, Status.REJECTED, reason=code, message=failure.message, pair_drops=drops)
