"""Writes the triplets of a unit: codes, importance, action and likelihood of every frame pair.

Works on a unit whose clips are decoded already; knows nothing of decoders, of storage or of Ray.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import torch

from kinescribe.labeling.batches import MicroBatches, first_size
from kinescribe.labeling.encode import EncodedFrame, EncodedPair, FrameEncoder, outcome_of
from kinescribe.models.codec import ImageCodec
from kinescribe.models.dynamics import Description, DynamicsModel, Failure
from kinescribe.models.tokens import Pair, Triplet
from kinescribe.schemas.clips import ExtractedClip, WorkUnit, stable_id
from kinescribe.schemas.config import Annotation
from kinescribe.schemas.dataset import triplet_schema
from kinescribe.schemas.outcomes import ClipOutcome


class _Described(NamedTuple):
    """A pair and what the model says of it."""

    pair: EncodedPair
    description: Description


class Annotator:
    """A dynamics model and a codec as a labeller of units.

    A row depends on its clip, the model and the annotation's configuration alone; what shares its
    micro-batch moves likelihoods by float rounding only.
    """

    def __init__(
        self,
        model: DynamicsModel[Any],
        codec: ImageCodec,
        annotation: Annotation,
        micro_batch: int | None = None,
    ) -> None:
        """`micro_batch` is the largest number of pairs or frames in one call; see `first_size`."""
        assert model.codec_id in (None, codec.id), (model.codec_id, codec.id)
        self.model = model
        self.annotation = annotation
        self.batches = MicroBatches(first_size(micro_batch, torch.cuda.is_available()))
        self.encoder = FrameEncoder(codec, micro_batch)
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
        rows = self._label(pairs, failures)
        kept = [row for row in rows if row["clip_id"] not in failures]
        outcomes = [outcome_of(clip, failures.get(clip.clip.clip_id)) for clip in extracted]
        return pa.Table.from_pylist(kept, self.schema), outcomes

    def _label(self, pairs: Sequence[EncodedPair], failures: dict[str, Failure]) -> list[dict[str, Any]]:
        said = self.batches.run(pairs, self._describe, self._image_length)
        described: list[_Described] = []
        for pair, one in zip(pairs, said, strict=True):
            if isinstance(one, Failure):
                failures.setdefault(pair.extracted.clip.clip_id, one)
            else:
                described.append(_Described(pair, one))
        rows: list[dict[str, Any]] = []
        for (pair, description), contrast in zip(described, self._contrasts(described), strict=True):
            failure = contrast if isinstance(contrast, Failure) else _unusable(description, contrast)
            if failure:
                failures.setdefault(pair.extracted.clip.clip_id, failure)
            else:
                rows.append(self._row(pair, description) | {"action_contrast": contrast})
        return rows

    def _contrasts(self, described: Sequence[_Described]) -> Sequence[float | Failure | None]:
        """Of each action, see `DynamicsModel.contrast`; None where it isn't asked for."""
        if self.annotation.scores != "likelihood,contrast":
            return [None] * len(described)

        def length(one: _Described) -> tuple[int, int]:
            return self._image_length(one.pair), one.description.num_tokens or 0

        return self.batches.run(described, self._contrast, length)

    def _describe(self, pairs: Sequence[EncodedPair]) -> Sequence[Description | Failure]:
        seen = [self._see(pair) for pair in pairs]
        seeds = [int(stable_id(self.annotation.seed, pair.triplet_id)[:15], 16) for pair in pairs]
        return self.model.describe(seen, self.annotation.max_new_tokens, self.annotation.temperature, seeds)

    def _contrast(self, described: Sequence[_Described]) -> list[float]:
        return self.model.contrast([Triplet(*self._see(one.pair), one.description.text) for one in described])

    def _see(self, pair: EncodedPair) -> Pair[Any]:
        source, target = (self._see_frame(frame) for frame in (pair.source, pair.target))
        return Pair(source, target)

    def _see_frame(self, frame: EncodedFrame) -> Any:
        return self.model.see(frame.codes, lambda: frame.image)

    def _image_length(self, pair: EncodedPair) -> int:
        """What the prompt's length grows with: of pixels a model may make more tokens, of codes as many."""
        return 0 if self.model.codec_id else pair.source.num_pixels + pair.target.num_pixels

    def _row(self, pair: EncodedPair, description: Description) -> dict[str, Any]:
        return self.encoder.row(pair) | {
            "action": description.text,
            "action_logprob": description.logprob,
            "action_tokens": description.num_tokens,
            "finish_reason": description.finish_reason,
        }


def _unusable(description: Description, contrast: float | None) -> Failure | None:
    """Why nothing could be trained on the description; what a server answers is held to the same."""
    if not re.search(r"\w", description.text):
        return Failure(f"the action {description.text!r} has no words")
    for name, value in {"likelihood": description.logprob, "contrast": contrast}.items():
        if value is not None and not math.isfinite(value):
            return Failure(f"the {name} of the action {description.text!r} is {value}")
    return None
