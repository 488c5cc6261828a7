"""The label pool's actor: takes extracted clips, returns rows and outcomes.

Holds an annotator and delegates to it. Imports torch only when an actor starts, because the driver imports
this module too and doesn't need torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kinescribe.actors.attempts import Attempts, attempt
from kinescribe.actors.decode import crashed_clip
from kinescribe.actors.rows import pack, unpack
from kinescribe.actors.timing import timed
from kinescribe.schemas.clips import ExtractedClip, WorkUnit, carried_by_clip
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.errors import UserError
from kinescribe.schemas.outcomes import ClipOutcome

if TYPE_CHECKING:
    from kinescribe.models.codec import ImageCodec
    from kinescribe.models.dynamics import DynamicsModel

LoadModels = Callable[[LabelConfig], "tuple[DynamicsModel[Any], ImageCodec]"]
Labelled = tuple[pa.Table, list[ClipOutcome]]
ALLOCATED = 0.9
"""The part of an actor's share of a GPU that torch may allocate; CUDA itself needs some memory besides."""


class LabelActor:
    """Turns a row of (WorkUnit, extracted clips, StageTime) into (WorkUnit, table, outcomes, StageTimes).

    Or into a UserError that ends the run. Several threads may call it if its model is on a server.
    """

    def __init__(
        self,
        load_models: LoadModels,
        config: LabelConfig,
        resources: Resources,
        threads: int,
        gpus: float,
        attempts: Attempts,
    ) -> None:
        attempts.start()
        import torch

        from kinescribe.labeling.annotate import Annotator
        from kinescribe.models.endpoint_vlm import EndpointVLM
        from kinescribe.storage.examples import read_examples

        torch.set_num_threads(threads)
        if 0 < gpus < 1 and torch.cuda.is_available():
            # Otherwise the first actor that looks for its micro-batch would leave the others no memory.
            torch.cuda.set_per_process_memory_fraction(ALLOCATED * gpus)
        model, codec = load_models(config)
        self.asks = False
        if isinstance(model, EndpointVLM):
            self.asks = True
            model.wait_for_server(resources.concurrency, attempts.note)
        self.annotator = Annotator(
            model,
            codec,
            config.annotation,
            resources.micro_batch,
            config.quality,
            read_examples(config.annotation),
        )
        self.share = gpus or threads
        self.attempts = attempts
        attempts.load()

    def __call__(self, rows: pa.Table) -> pa.Table:
        unit, extracted, decode = unpack(rows)
        work = partial(self._annotate_unit, unit, extracted)
        try:
            (table, outcomes), label = timed("label", work, self.share, waits=self.asks)
        except UserError as error:  # returned, because Ray would turn a raised one into text
            return pack(unit.unit_id, error)
        return pack(unit.unit_id, (unit, table, outcomes, [decode, label]))

    def _annotate_unit(self, unit: WorkUnit, extracted: Sequence[ExtractedClip]) -> Labelled:
        key = f"label/{unit.unit_id}"
        annotate = partial(
            self.annotator.annotate, columns=carried_by_clip(unit, self.annotator.annotation.names)
        )
        parts = attempt(self.attempts, key, extracted, annotate, self._crashed)
        table = pa.concat_tables([table for table, _ in parts])
        return table, [outcome for _, outcomes in parts for outcome in outcomes]

    def _crashed(self, extracted: ExtractedClip) -> Labelled:
        is_settled = extracted.outcome is not None
        clip = extracted if is_settled else crashed_clip(extracted.clip, "labelling")
        return self.annotator.annotate([clip])
