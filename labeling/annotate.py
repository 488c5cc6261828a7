"""Writes the triplets of a unit: codes, importance, action and likelihood of every frame pair.

Works on a unit whose clips are decoded already; knows nothing of decoders, of storage or of Ray.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from labeling.batches import MicroBatches
from labeling.encode import EncodedFrame, EncodedPair, FrameEncoder, outcome_of
from models.codec import ImageCodec
from models.dynamics import Description, DynamicsModel, Failure
from models.tokens import Pair, Triplet
from schemas.clips import ExtractedClip, WorkUnit, stable_id
from schemas.config import Annotation
from schemas.dataset import triplet_schema
from schemas.outcomes import ClipOutcome


class _Label(NamedTuple):
    """What the model says of a pair.

    The contrast (`DynamicsModel.contrast`) is None where it wasn't asked for.
    """

    description: Description
    contrast: float | None


class Annotator:
    """A dynamics model and a codec as a labeller of units.

    A row depends on its clip, the model and the annotation's configuration alone; what shares its
    micro-batch moves likelihoods by float rounding only.
    """

    def __init__(
        self, model: DynamicsModel[Any], codec: ImageCodec, annotation: Annotation, micro_batch: int
    ) -> None:
        assert model.codec_id in (None, codec.id), (model.codec_id, codec.id)
        self.model = model
        self.annotation = annotation
        self.batches = MicroBatches(micro_batch)
        self.encoder = FrameEncoder(codec, self.batches)
        self.schema = triplet_schema(codec.id, codec.grid)

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
        pairs = self.encoder.encode([clip for clip in extracted if clip.outcome is None], failures)
        rows = self._describe(pairs, failures)
        kept = [row for row in rows if row["clip_id"] not in failures]
        outcomes = [outcome_of(clip, failures.get(clip.clip.clip_id)) for clip in extracted]
        return pa.Table.from_pylist(kept, self.schema), outcomes

    def _describe(self, pairs: Sequence[EncodedPair], failures: dict[str, Failure]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for pair, result in zip(pairs, self.batches.run(pairs, self._describe_pairs), strict=True):
            if isinstance(result, Failure):
                failures.setdefault(pair.extracted.clip.clip_id, result)
            elif failure := _not_finite(result):
                failures.setdefault(pair.extracted.clip.clip_id, failure)
            else:
                rows.append(self._row(pair, result))
        return rows

    def _describe_pairs(self, pairs: Sequence[EncodedPair]) -> list[_Label | Failure]:
        seen = [Pair(self._see(pair.source), self._see(pair.target)) for pair in pairs]
        seeds = [int(stable_id(self.annotation.seed, pair.triplet_id)[:15], 16) for pair in pairs]
        said = self.model.describe(seen, self.annotation.max_new_tokens, self.annotation.temperature, seeds)
        described = {place: one for place, one in enumerate(said) if isinstance(one, Description)}
        contrasts: dict[int, float | None] = dict.fromkeys(described)
        if self.annotation.scores == "likelihood,contrast":
            triplets = [Triplet(*seen[place], one.text) for place, one in described.items()]
            contrasts = dict(zip(described, self.model.contrast(triplets), strict=True))
        return [
            one if isinstance(one, Failure) else _Label(one, contrasts[place])
            for place, one in enumerate(said)
        ]

    def _see(self, frame: EncodedFrame) -> Any:
        return self.model.see(frame.codes, lambda: frame.image)

    def _row(self, pair: EncodedPair, label: _Label) -> dict[str, Any]:
        return self.encoder.row(pair) | {
            "action": label.description.text,
            "action_logprob": label.description.logprob,
            "action_tokens": label.description.num_tokens,
            "finish_reason": label.description.finish_reason,
            "action_contrast": label.contrast,
        }


def _not_finite(label: _Label) -> Failure | None:
    scores = {"likelihood": label.description.logprob, "contrast": label.contrast}
    for name, value in scores.items():
        if value is not None and not math.isfinite(value):
            return Failure(f"the {name} of the action {label.description.text!r} is {value}")
    return None
