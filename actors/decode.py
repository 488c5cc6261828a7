"""The decode pool's actor: takes a work unit, returns its extracted clips. Knows no decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from kinescribe.actors.attempts import Attempts, attempt
from kinescribe.actors.rows import pack, unpack
from kinescribe.actors.timing import timed
from kinescribe.labeling.extract import PairExtractor
from kinescribe.schemas.clips import Clip, ExtractedClip, WorkUnit
from kinescribe.schemas.config import LabelConfig
from kinescribe.schemas.outcomes import ClipOutcome, RejectCode, Status

MakeExtractor = Callable[[LabelConfig, str], PairExtractor]
"""Takes the configuration and the root folder of the input, which no clip may leave."""


class DecodeActor:
    """Turns a row of a WorkUnit into a row of (WorkUnit, list of ExtractedClip, StageTime)."""

    def __init__(
        self, make_extractor: MakeExtractor, config: LabelConfig, root: str, attempts: Attempts
    ) -> None:
        attempts.start()
        self.extractor = make_extractor(config, root)
        self.attempts = attempts

    def __call__(self, rows: pa.Table) -> pa.Table:
        unit: WorkUnit = unpack(rows)
        extracted, decode = timed("decode", lambda: self._extract_unit(unit))
        return pack(unit.unit_id, (unit, extracted, decode))

    def _extract_unit(self, unit: WorkUnit) -> list[ExtractedClip]:
        parts = attempt(self.attempts, f"decode/{unit.unit_id}", unit.clips, self._extract, _crashed)
        return [extracted for part in parts for extracted in part]

    def _extract(self, clips: Sequence[Clip]) -> list[ExtractedClip]:
        return [self.extractor.extract(clip) for clip in clips]


def _crashed(clip: Clip) -> list[ExtractedClip]:
    return [crashed_clip(clip, "decoding")]


def crashed_clip(clip: Clip, step: str) -> ExtractedClip:
    """The clip, rejected because three actors died on it."""
    message = f"the process died three times while {step} this clip"
    outcome = ClipOutcome(clip.clip_id, Status.REJECTED, reason=RejectCode.CRASHED, message=message)
    return ExtractedClip(clip, outcome=outcome)
