"""Makes triplets of decoded clips: codes, importance, action and likelihood of every frame pair.

Knows nothing of decoders, storage or Ray.
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
from kinescribe.schemas.clips import ExtractedClip, stable_id
from kinescribe.schemas.config import Annotation
from kinescribe.schemas.dataset import triplet_schema
from kinescribe.schemas.outcomes import ClipOutcome


class _Described(NamedTuple):
    """A pair and the model's description of it."""

    pair: EncodedPair
    description: Description


class Annotator:
    """Labels clips with a dynamics model and a codec.

    A row depends only on its clip, the model and the annotation's configuration. The other pairs of its
    micro-batch change its likelihood by no more than float rounding.
    """

    def __init__(
        self,
        model: DynamicsModel[Any],
        codec: ImageCodec,
        annotation: Annotation,
        micro_batch: int | None = None,
    ) -> None:
        """`micro_batch` is the most pairs or frames in one call; see `first_size` for the default."""
        assert model.codec_id in (None, codec.id), (model.codec_id, codec.id)
        self.model = model
        self.annotation = annotation
        self.batches = MicroBatches(first_size(micro_batch, torch.cuda.is_available()))
        self.encoder = FrameEncoder(codec, micro_batch)
        self.schema = triplet_schema(codec.id, codec.grid)

    def annotate(self, extracted: Sequence[ExtractedClip]) -> tuple[pa.Table, list[ClipOutcome]]:
        """Rows in `triplet_schema` and the outcome of every clip, both in the order of `extracted`.

        If the model raises on a frame or pair, that clip is rejected and no other.
        """
        failures: dict[str, Failure] = {}
        pairs = self.encoder.encode([clip for clip in extracted if clip.outcome is None], failures)
        rows = self._label(pairs, failures)
        kept = [row for row in rows if row["clip_id"] not in failures]
        outcomes = [outcome_of(clip, failures.get(clip.clip.clip_id)) for clip in extracted]
        return pa.Table.from_pylist(kept, self.schema), outcomes

    def _label(self, pairs: Sequence[EncodedPair], failures: dict[str, Failure]) -> list[dict[str, Any]]:
        descriptions = self.batches.run(pairs, self._describe, self._image_length)
        described: list[_Described] = []
        for pair, description in zip(pairs, descriptions, strict=True):
            if isinstance(description, Failure):
                failures.setdefault(pair.extracted.clip.clip_id, description)
            else:
                described.append(_Described(pair, description))
        rows: list[dict[str, Any]] = []
        for (pair, description), contrast in zip(described, self._contrasts(described), strict=True):
            failure = contrast if isinstance(contrast, Failure) else _unusable(description, contrast)
            if failure:
                failures.setdefault(pair.extracted.clip.clip_id, failure)
            else:
                rows.append(self._row(pair, description) | {"action_contrast": contrast})
        return rows

    def _contrasts(self, described: Sequence[_Described]) -> Sequence[float | Failure | None]:
        """`DynamicsModel.contrast` of each action; Nones if the configuration doesn't ask for it."""
        if self.annotation.scores != "likelihood,contrast":
            return [None] * len(described)

        def length(item: _Described) -> tuple[int, int]:
            return self._image_length(item.pair), item.description.num_tokens or 0

        return self.batches.run(described, self._contrast, length)

    def _describe(self, pairs: Sequence[EncodedPair]) -> Sequence[Description | Failure]:
        seen = [self._see(pair) for pair in pairs]
        seeds = [int(stable_id(self.annotation.seed, pair.triplet_id)[:15], 16) for pair in pairs]
        return self.model.describe(seen, self.annotation.max_new_tokens, self.annotation.temperature, seeds)

    def _contrast(self, described: Sequence[_Described]) -> list[float]:
        return self.model.contrast([Triplet(*self._see(pair), said.text) for pair, said in described])

    def _see(self, pair: EncodedPair) -> Pair[Any]:
        source, target = (self._see_frame(frame) for frame in (pair.source, pair.target))
        return Pair(source, target)

    def _see_frame(self, frame: EncodedFrame) -> Any:
        return self.model.see(frame.codes, lambda: frame.image)

    def _image_length(self, pair: EncodedPair) -> int:
        """What the prompt's length grows with: more pixels may be more tokens, codes always are as many."""
        return 0 if self.model.codec_id else pair.source.num_pixels + pair.target.num_pixels

    def _row(self, pair: EncodedPair, description: Description) -> dict[str, Any]:
        return self.encoder.row(pair) | {
            "action": description.text,
            "action_logprob": description.logprob,
            "action_tokens": description.num_tokens,
            "finish_reason": description.finish_reason,
        }


def _unusable(description: Description, contrast: float | None) -> Failure | None:
    """Why nothing could be trained on the description, or None; a server may answer anything."""
    if not re.search(r"\w", description.text):
        return Failure(f"the action {description.text!r} has no words")
    for name, value in {"likelihood": description.logprob, "contrast": contrast}.items():
        if value is not None and not math.isfinite(value):
            return Failure(f"the {name} of the action {description.text!r} is {value}")
    return None
