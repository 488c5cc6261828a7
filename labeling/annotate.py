"""Makes triplets of decoded clips: codes, importance, action and likelihood of every frame pair.

Knows nothing of decoders, storage or Ray.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import torch

from kinescribe.labeling.batches import MicroBatches, first_size
from kinescribe.labeling.encode import EncodedFrame, EncodedPair, FrameEncoder, outcome_of
from kinescribe.models.codec import ImageCodec
from kinescribe.models.dynamics import Description, DynamicsModel, Failure
from kinescribe.models.tokens import Pair
from kinescribe.schemas.clips import ExtractedClip, stable_id
from kinescribe.schemas.codes import same_network
from kinescribe.schemas.config import Annotation, Quality
from kinescribe.schemas.dataset import triplet_schema
from kinescribe.schemas.outcomes import ClipOutcome
from kinescribe.schemas.prompts import CLASS, Example, Prompt


class _Asked(NamedTuple):
    """A pair and what the model is asked about it."""

    pair: EncodedPair
    prompt: Prompt

    @property
    def clip_id(self) -> str:
        return self.pair.extracted.clip.clip_id


class _Described(NamedTuple):
    """A pair and the model's description of it."""

    asked: _Asked
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
        quality: Quality = (),
        examples: tuple[Example, ...] = (),
    ) -> None:
        """`micro_batch` is the most pairs or frames in one call; see `first_size` for the default,
        or `DynamicsModel.pairs_at_once`.

        `quality` is what was measured of the pairs, `examples` are those of `annotation.examples`.
        """
        assert model.codec_id is None or same_network(model.codec_id, codec.id), (model.codec_id, codec.id)
        self.model = model
        self.annotation = annotation
        self.examples = examples
        size = micro_batch or model.pairs_at_once
        self.batches = MicroBatches(first_size(size, torch.cuda.is_available()))
        self.encoder = FrameEncoder(codec, micro_batch)
        more = [name for name in ("vocabulary", "context_frames") if getattr(annotation, name)]
        self.schema = triplet_schema(codec.id, codec.grid, [*quality, *more])

    def annotate(
        self, extracted: Sequence[ExtractedClip], columns: Mapping[str, Mapping[str, object]] | None = None
    ) -> tuple[pa.Table, list[ClipOutcome]]:
        """Rows in `triplet_schema` and the outcome of every clip, both in the order of `extracted`.

        `columns` are the carried columns of each clip, by its id. If the model raises on a frame or pair,
        that clip is rejected and no other.
        """
        failures: dict[str, Failure] = {}
        pairs = self.encoder.encode([clip for clip in extracted if clip.outcome is None], failures)
        rows = self._label([_Asked(pair, self._prompt(pair, columns or {})) for pair in pairs], failures)
        kept = [row for row in rows if row["clip_id"] not in failures]
        outcomes = [outcome_of(clip, failures.get(clip.clip.clip_id)) for clip in extracted]
        return pa.Table.from_pylist(kept, self.schema), outcomes

    def _prompt(self, pair: EncodedPair, columns: Mapping[str, Mapping[str, object]]) -> Prompt:
        clip = pair.extracted.clip
        values = {CLASS: clip.action_class, **columns.get(clip.clip_id, {})}
        return self.annotation.prompt(values, self.examples)

    def _label(self, asked: Sequence[_Asked], failures: dict[str, Failure]) -> list[dict[str, Any]]:
        descriptions = self.batches.run(asked, self._describe, self._length)
        described: list[_Described] = []
        for one, description in zip(asked, descriptions, strict=True):
            if isinstance(description, Failure):
                failures.setdefault(one.clip_id, description)
            else:
                described.append(_Described(one, description))
        rows: list[dict[str, Any]] = []
        for (one, description), contrast in zip(described, self._contrasts(described), strict=True):
            failure = contrast if isinstance(contrast, Failure) else _unusable(description, contrast)
            if failure:
                failures.setdefault(one.clip_id, failure)
            else:
                rows.append(self._row(one.pair, description) | {"action_contrast": contrast})
        return rows

    def _contrasts(self, described: Sequence[_Described]) -> Sequence[float | Failure | None]:
        """`DynamicsModel.contrast` of each action; Nones if the configuration doesn't ask for it."""
        if self.annotation.scores != "likelihood,contrast":
            return [None] * len(described)

        def length(item: _Described) -> tuple[int, int, int]:
            return *self._length(item.asked), item.description.num_tokens or 0

        return self.batches.run(described, self._contrast, length)

    def _describe(self, asked: Sequence[_Asked]) -> Sequence[Description | Failure]:
        seen = [self._see(one) for one in asked]
        if self.annotation.vocabulary is not None:
            return self.model.choose(seen, self.annotation.vocabulary)
        seeds = [int(stable_id(self.annotation.seed, one.pair.triplet_id)[:15], 16) for one in asked]
        return self.model.describe(seen, self.annotation.max_new_tokens, self.annotation.sampling, seeds)

    def _contrast(self, described: Sequence[_Described]) -> list[float]:
        return self.model.contrast([self._see(asked).triplet(said.text) for asked, said in described])

    def _see(self, asked: _Asked) -> Pair[Any]:
        source, target = (self._see_frame(frame) for frame in (asked.pair.source, asked.pair.target))
        context = (self.model.see(None, partial(bytes, image)) for image in asked.pair.pair.context)
        return Pair(source, target, asked.prompt, tuple(context))

    def _see_frame(self, frame: EncodedFrame) -> Any:
        return self.model.see(frame.codes, lambda: frame.image)

    def _length(self, asked: _Asked) -> tuple[int, int]:
        """What the prompt's length grows with: more pixels may be more tokens, codes always are as many."""
        pair, prompt = asked
        num_pixels = 0 if self.model.codec_id else pair.source.num_pixels + pair.target.num_pixels
        return num_pixels, len(prompt.question) + len(prompt.system)

    def _row(self, pair: EncodedPair, description: Description) -> dict[str, Any]:
        return self.encoder.row(pair) | {
            "action_probability": description.probability,
            "action_runner_up": description.runner_up,
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
