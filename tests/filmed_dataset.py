"""Datasets of real videos, with the frames that the extractor takes from them, but without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kinescribe.labeling.extract import PairExtractor
from kinescribe.labeling.units import plan_units
from kinescribe.schemas.clips import Clip, ExtractedClip, stable_id
from kinescribe.schemas.config import KeyFrames, Limits, StoredImage
from kinescribe.schemas.outcomes import ClipOutcome, Status
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind
from kinescribe.storage.shards import write_unit
from tests.tiny_dataset import row, run_of, table

Rows = list[dict[str, Any]]


def rows_of(extracted: ExtractedClip) -> Rows:
    """The rows of a clip, as `label` writes them but for the model's columns."""
    rows: Rows = []
    for index, pair in enumerate(extracted.pairs):
        source, target = extracted.frames[pair.source], extracted.frames[pair.target]
        images = {
            "source": {"bytes": source.image, "path": None},
            "target": {"bytes": target.image, "path": None},
        }
        times = {"source_time_s": source.time_s, "target_time_s": target.time_s}
        rows.append(row(extracted.clip, index) | images | times)
    return rows


def clip_of(uri: str, **place: Any) -> Clip:
    size_bytes = Path(uri).stat().st_size if "://" not in uri else None
    return Clip(stable_id(uri, *place.values()), uri, size_bytes=size_bytes, **place)


def film(dataset: Path, clips: Sequence[Clip], change: Callable[[Rows], object] = lambda rows: None) -> str:
    """Write the dataset of these clips, all in one unit, after `change` has changed the rows."""
    run = run_of(clips)
    (unit,) = plan_units(clips, len(clips), run.fingerprint)
    bind(str(dataset), run)
    write_plan(str(dataset), [unit])
    extractor = PairExtractor(Limits(), KeyFrames(), StoredImage())
    extracted = [extractor.extract(clip) for clip in clips]
    extractor.close()
    assert [one.clip.uri for one in extracted if one.outcome] == []
    rows = [row for one in extracted for row in rows_of(one)]
    change(rows)
    ends = [ClipOutcome(one.clip.clip_id, Status.KEPT, len(one.pairs)) for one in extracted]
    assert write_unit(str(dataset), unit, table(rows), ends)
    return str(dataset)
