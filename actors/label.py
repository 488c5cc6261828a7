"""The label pool's actor: extracted clips in, rows and outcomes out.

Holds models and knows no task of theirs. What needs torch is imported where an actor starts: the driver
imports this module too, and has no use for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kinescribe.actors.attempts import Attempts, attempt
from kinescribe.actors.decode import crashed_clip
from kinescribe.actors.rows import pack, unpack
from kinescribe.actors.timing import timed
from kinescribe.schemas.clips import ExtractedClip, WorkUnit
from kinescribe.schemas.config import LabelConfig
from kinescribe.schemas.outcomes import ClipOutcome

if TYPE_CHECKING:
    from kinescribe.models.codec import ImageCodec
    from kinescribe.models.dynamics import DynamicsModel

LoadModels = Callable[[LabelConfig], "tuple[DynamicsModel[Any], ImageCodec]"]
Labelled = tuple[pa.Table, list[ClipOutcome]]
ALLOCATED = 0.9
"""Of an actor's share of a card; CUDA itself takes some beside."""


class LabelActor:
    """Turns a row of (WorkUnit, extracted clips, StageTime) into (WorkUnit, table, outcomes, StageTimes)."""

    def __init__(
        self,
        load_models: LoadModels,
        config: LabelConfig,
        micro_batch: int | None,
        threads: int,
        gpus: float,
        attempts: Attempts,
    ) -> None:
        attempts.start()
        import torch

        from kinescribe.labeling.annotate import Annotator

        torch.set_num_threads(threads)
        if 0 < gpus < 1 and torch.cuda.is_available():
            # Or the first actor that tries how much fits would leave nothing to those that share the card.
            torch.cuda.set_per_process_memory_fraction(ALLOCATED * gpus)
        self.annotator = Annotator(*load_models(config), config.annotation, micro_batch)
        self.share = gpus or threads
        self.attempts = attempts

    def __call__(self, rows: pa.Table) -> pa.Table:
        unit, extracted, decode = unpack(rows)
        (table, outcomes), label = timed("label", lambda: self._annotate_unit(unit, extracted), self.share)
        return pack(unit.unit_id, (unit, table, outcomes, [decode, label]))

    def _annotate_unit(self, unit: WorkUnit, extracted: Sequence[ExtractedClip]) -> Labelled:
        parts = attempt(self.attempts, f"label/{unit.unit_id}", extracted, self._annotate, self._crashed)
        table = pa.concat_tables([table for table, _ in parts])
        return table, [outcome for _, outcomes in parts for outcome in outcomes]

    def _annotate(self, extracted: Sequence[ExtractedClip]) -> Labelled:
        part = WorkUnit("part", tuple(one.clip for one in extracted))
        return self.annotator.annotate(part, extracted)

    def _crashed(self, extracted: ExtractedClip) -> Labelled:
        ended = extracted.outcome is not None
        return self._annotate([extracted if ended else crashed_clip(extracted.clip, "labelling")])
