"""`kinescribe label`: plans an input's units, and labels those that are not committed yet.

The state is in the dataset, so a run can die at any moment and be run again. Knows nothing of decoding,
models or Parquet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from kinescribe.actors.rows import pack
from kinescribe.cluster.pipeline import DEFAULT_SESSIONS, LabelJob, Sessions, run_pipeline
from kinescribe.cluster.progress import LabelProgress, open_progress
from kinescribe.labeling.inputs import clip_frames, input_root
from kinescribe.labeling.prompts import prompt_as_sent
from kinescribe.labeling.retries import plan_retry, retry_units
from kinescribe.labeling.units import unit_ids, units_of
from kinescribe.models.checkpoint_files import (
    EMBEDDED,
    ModelIdentity,
    codec_folder,
    family_named,
    identify,
    identify_codec,
    usual_likelihoods,
)
from kinescribe.models.endpoint import is_endpoint
from kinescribe.preconditions import require_extras
from kinescribe.schemas.clips import WorkUnit
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.prompts import CLASS
from kinescribe.schemas.rendering import Table, field_tables
from kinescribe.schemas.version import VERSION
from kinescribe.storage import uri
from kinescribe.storage.audit import DatasetStatus
from kinescribe.storage.card import write_card
from kinescribe.storage.clips import StoredClips
from kinescribe.storage.examples import examples_id
from kinescribe.storage.plan import write_plan_tables
from kinescribe.storage.run import Run, bind, require_own
from kinescribe.storage.shards import committed_units
from kinescribe.storage.writers import writing

UNITS_PER_PART = 1024
"""An Arrow table for each of many units would take more memory than the units."""
DEFAULT_CONFIG, DEFAULT_RESOURCES = LabelConfig(), Resources()


def run_label(
    input: str,
    out: str,
    config: LabelConfig = DEFAULT_CONFIG,
    resources: Resources = DEFAULT_RESOURCES,
    progress: LabelProgress | None = None,
    sessions: Sessions = DEFAULT_SESSIONS,
    retry_rejected: bool = False,
    join: bool = False,
) -> DatasetStatus:
    """Label the clips of `input` into the dataset `out`, or those that an earlier run left.

    `retry_rejected` tries all rejected clips a second time, however many they are. Their new outcomes
    replace the rejects; nothing else changes. `join` works beside another run that writes this dataset.

    Raises InputError, ModelError or DatasetError before anything is started, InputError with the reasons
    when more than `config.max_reject_rate` of the clips were rejected, and StoreError if a unit can't be
    written.
    """
    if retry_rejected:
        config = config.model_copy(update={"max_reject_rate": 1.0})
    job = LabelJob(input, uri.absolute(out), _with_absolute_paths(config), resources, sessions)
    run, clips = planned_run(input, config, sessions)
    ids = unit_ids(clips.ids(), config.clips_per_unit, run.fingerprint)
    if retry_rejected or {*ids, *_retry_ids(out, run, clips)} - committed_units(out):
        # First, or the dataset would be bound to a model or a prompt that can't be used.
        prompt_as_sent(config)
    bind(out, run)
    with writing(out, join) as note_commit:
        write_plan_tables(out, clips.planned(ids, config.clips_per_unit))
        if retry_rejected:
            plan_retry(out, run, clips, config.clips_per_unit)
        retries = retry_units(out, run, clips)
        committed = committed_units(out)
        if not committed:
            # Before the first row, or `load_dataset` would take the plan of a run that died for rows.
            write_card(out)
        sizes = _unit_sizes(ids, config.clips_per_unit, len(clips), retries)
        if pending := sizes.keys() - committed:
            progress = progress or open_progress()
            num_pending = sum(sizes[unit_id] for unit_id in pending)
            progress.start(sum(sizes.values()), sum(sizes.values()) - num_pending)
            units = chain(clips.with_columns(units_of(clips, ids, config.clips_per_unit)), retries)
            rows = _rows(unit for unit in units if unit.unit_id in pending)
            try:
                run_pipeline(job, rows, progress, note_commit)
            finally:
                progress.stop()
        return write_card(out)


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """What a run would label."""

    clips: int
    action_classes: int
    size_bytes: int
    """Of the clips' files, as far as their store says."""
    units: int
    pending_units: int
    """Not committed in the dataset yet."""
    prompt: str | None = None
    """What the model would get for the first clip, if it was asked for."""

    def tables(self) -> Iterable[Table]:
        """A row for each value that was asked for."""
        return field_tables({name: value for name, value in asdict(self).items() if value is not None})


def plan_label(input: str, out: str, config: LabelConfig, show_prompt: bool = False) -> LabelPlan:
    """What `run_label` would do. Starts and writes nothing; raises what it raises before it starts."""
    run, clips = planned_run(input, config, DEFAULT_SESSIONS)
    require_own(out, run)
    first = next(iter(clips.frames([CLASS, *config.columns]))).row(0, named=True)
    prompt = prompt_as_sent(config, first)
    ids = unit_ids(clips.ids(), config.clips_per_unit, run.fingerprint) + _retry_ids(out, run, clips)
    videos = pl.concat(clips.frames(["uri", "action_class", "size_bytes"]))
    return LabelPlan(
        clips=len(clips),
        action_classes=videos["action_class"].drop_nulls().n_unique(),
        size_bytes=int(videos.group_by("uri").agg(pl.max("size_bytes"))["size_bytes"].sum()),
        units=len(ids),
        pending_units=len(set(ids) - committed_units(out)),
        prompt=prompt if show_prompt else None,
    )


def planned_run(input: str, config: LabelConfig, sessions: Sessions) -> tuple[Run, StoredClips]:
    """The run that the configuration, the models and the clips of the input make."""
    if config.annotation.scores_given:
        family_named(config.dynamics).require(config.dynamics, "dynamics")
    codec = identify_codec(codec_folder(config.dynamics, config.codec), config.image.fit)
    model = identify(config.dynamics)
    if "text" in config.quality:
        require_extras("text in quality", "text")
    with closing(sessions.make_extractor(config, input_root(input))) as extractor:
        clips = StoredClips(
            clip_frames(input, config.limits, extractor.duration_s, config.roots, config.columns)
        )
    run = Run(
        version=VERSION,
        config=_identifying(config, model),
        models={"dynamics": model.fingerprint},
        codec_id=codec.id,
        grid=codec.grid,
        plan=clips.digest,
        likelihoods=usual_likelihoods(config.dynamics),
    )
    return run, clips


def _identifying(config: LabelConfig, model: ModelIdentity) -> dict[str, Any]:
    """The configuration's values; a model on a server is the same wherever it is served, and so are examples
    wherever they are."""
    values = config.model_dump(mode="json")
    values["annotation"]["examples"] = examples_id(config.annotation)
    return values | ({"dynamics": model.fingerprint} if is_endpoint(config.dynamics) else {})


def _retry_ids(out: str, run: Run, clips: StoredClips) -> list[str]:
    return [unit.unit_id for unit in retry_units(out, run, clips)]


def _with_absolute_paths(config: LabelConfig) -> LabelConfig:
    """The configuration with absolute paths: Ray's workers may run in another folder."""
    names = {"dynamics": config.dynamics, "codec": config.codec}
    folders = {key: name for key, name in names.items() if name and name not in EMBEDDED}
    absolute: dict[str, Any] = {
        key: uri.absolute(name) for key, name in folders.items() if Path(name).is_dir()
    }
    if examples := config.annotation.examples:
        absolute["annotation"] = config.annotation.model_copy(update={"examples": uri.absolute(examples)})
    return config.model_copy(update=absolute)


def _unit_sizes(
    ids: Sequence[str], clips_per_unit: int, num_clips: int, retries: Sequence[WorkUnit]
) -> dict[str, int]:
    """How many clips each unit has, by id, including the units of retries."""
    sizes = dict.fromkeys(ids, clips_per_unit)
    sizes[ids[-1]] = num_clips - clips_per_unit * (len(ids) - 1)
    return sizes | {unit.unit_id: len(unit.clips) for unit in retries}


def _rows(units: Iterator[WorkUnit]) -> pa.Table:
    """The units as rows of the pipeline."""
    parts: list[pa.Table] = []
    while rows := [pack(unit.unit_id, unit) for unit in islice(units, UNITS_PER_PART)]:
        parts.append(pa.concat_tables(rows).combine_chunks())
    return pa.concat_tables(parts)
