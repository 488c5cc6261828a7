"""Writes the triplets of a unit: codes, importance, action and likelihood of every frame pair.

Works on a unit whose clips are decoded already; knows nothing of decoders, of storage or of Ray.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image

from labeling.batches import Failure, MicroBatches
from models.token_vlm import Description, TokenVLM
from models.tokens import CodePair, Codes, CodeTriplet
from schemas.clips import Clip, ExtractedClip, FramePair, WorkUnit, stable_id
from schemas.config import Annotation
from schemas.dataset import triplet_schema
from schemas.outcomes import ClipOutcome, RejectCode, Status

LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


class EncodedFrame(NamedTuple):
    """A key frame as the codec sees it: codes of shape (L,), pre-quantised features of shape (L, C)."""

    codes: Codes
    features_LC: torch.Tensor


class _Pair(NamedTuple):
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


class _Label(NamedTuple):
    """What the model says of a pair; the contrast (`TokenVLM.contrast`) is None where it wasn't asked for."""

    description: Description
    contrast: float | None


class Annotator:
    """A dynamics model and its codec as a labeller of units.

    A row depends on its clip, the model and the annotation's configuration alone; what shares its
    micro-batch moves likelihoods by float rounding only.
    """

    def __init__(self, model: TokenVLM, annotation: Annotation, micro_batch: int) -> None:
        self.model = model
        self.annotation = annotation
        self.batches = MicroBatches(micro_batch)
        self.schema = triplet_schema(model.codec.id, model.codec.grid)

    def annotate(
        self, unit: WorkUnit, extracted: Sequence[ExtractedClip]
    ) -> tuple[pa.Table, list[ClipOutcome]]:
        """Rows in `triplet_schema`, and the outcome of every clip of the unit, both in the unit's order.

        A frame or pair on which the model raises rejects its clip, and no other.
        """
        assert [clip.clip.clip_id for clip in extracted] == [clip.clip_id for clip in unit.clips], (
            unit.unit_id
        )
        failures: dict[str, Failure] = {}
        pairs = self._encode([clip for clip in extracted if clip.outcome is None], failures)
        rows = self._describe(pairs, failures)
        kept = [row for row in rows if row["clip_id"] not in failures]
        outcomes = [_outcome(clip, failures.get(clip.clip.clip_id)) for clip in extracted]
        return pa.Table.from_pylist(kept, self.schema), outcomes

    def _encode(self, clips: Sequence[ExtractedClip], failures: dict[str, Failure]) -> list[_Pair]:
        """The pairs of `clips` with every key frame encoded once, over all clips together."""
        places = [
            (clip, index)
            for clip in clips
            for index in sorted({end for pair in clip.pairs for end in (pair.source, pair.target)})
        ]
        results = self.batches.run([clip.frames[index].image for clip, index in places], self._encode_images)
        frames: dict[tuple[str, int], EncodedFrame] = {}
        for (clip, index), result in zip(places, results, strict=True):
            if isinstance(result, Failure):
                failures.setdefault(clip.clip.clip_id, result)
            else:
                frames[clip.clip.clip_id, index] = result
        return [
            _Pair(clip, pair, frames[clip.clip.clip_id, pair.source], frames[clip.clip.clip_id, pair.target])
            for clip in clips
            if clip.clip.clip_id not in failures
            for pair in clip.pairs
        ]

    def _encode_images(self, images: Sequence[bytes]) -> list[EncodedFrame]:
        codec = self.model.codec
        pixels_B3HW = codec.preprocess([Image.open(io.BytesIO(image)) for image in images])
        codes_BL, features_BLC = codec.encode(pixels_B3HW)
        codes = codes_BL.cpu().numpy().astype(np.uint16)
        return [EncodedFrame(*frame) for frame in zip(codes, features_BLC, strict=True)]

    def _describe(self, pairs: Sequence[_Pair], failures: dict[str, Failure]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for pair, result in zip(pairs, self.batches.run(pairs, self._describe_pairs), strict=True):
            if isinstance(result, Failure):
                failures.setdefault(pair.extracted.clip.clip_id, result)
            elif failure := _not_finite(result):
                failures.setdefault(pair.extracted.clip.clip_id, failure)
            else:
                rows.append(self._row(pair, result))
        return rows

    def _describe_pairs(self, pairs: Sequence[_Pair]) -> list[_Label]:
        codes = [CodePair(pair.source.codes, pair.target.codes) for pair in pairs]
        seeds = [int(stable_id(self.annotation.seed, pair.triplet_id)[:15], 16) for pair in pairs]
        said = self.model.describe(codes, self.annotation.max_new_tokens, self.annotation.temperature, seeds)
        contrasts: list[float | None] = [None] * len(pairs)
        if self.annotation.scores == "likelihood,contrast":
            triplets = [CodeTriplet(*pair, one.text) for pair, one in zip(codes, said, strict=True)]
            contrasts = [*self.model.contrast(triplets)]
        return [_Label(*label) for label in zip(said, contrasts, strict=True)]

    def _row(self, pair: _Pair, label: _Label) -> dict[str, Any]:
        clip: Clip = pair.extracted.clip
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
            "action": label.description.text,
            "action_logprob": label.description.logprob,
            "action_tokens": label.description.num_tokens,
            "finish_reason": label.description.finish_reason,
            "action_contrast": label.contrast,
            "importance": self._importance(pair),
            "source_codes": pair.source.codes,
            "target_codes": pair.target.codes,
            "motion": pair.pair.motion,
        }

    def _importance(self, pair: _Pair) -> NDArray[np.float16]:
        """Weights of the target's tokens, shape (L,), row-major (METHOD §3)."""
        source_1LC, target_1LC = pair.source.features_LC[None], pair.target.features_LC[None]
        weights_L = self.model.codec.importance(source_1LC, target_1LC)[0]
        return weights_L.clamp(max=LARGEST_FLOAT16).half().cpu().numpy()


def _not_finite(label: _Label) -> Failure | None:
    scores = {"likelihood": label.description.logprob, "contrast": label.contrast}
    for name, value in scores.items():
        if value is not None and not math.isfinite(value):
            return Failure(f"the {name} of the action {label.description.text!r} is {value}")
    return None


def _outcome(extracted: ExtractedClip, failure: Failure | None) -> ClipOutcome:
    if extracted.outcome is not None:
        return extracted.outcome
    clip_id, drops = extracted.clip.clip_id, extracted.pair_drops
    if failure is None:
        return ClipOutcome(clip_id, Status.KEPT, len(extracted.pairs), pair_drops=drops)
    code = RejectCode.MODEL_FAILED
    return ClipOutcome(clip_id, Status.REJECTED, reason=code, message=failure.message, pair_drops=drops)
