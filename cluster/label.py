"""`kinescribe label` on Ray: plan, decode, label and commit every unit that is not committed yet.

The pools do the work and the units' objects hold the state, so this module can die at any moment and be
run again. Knows nothing of decoding, models or Parquet.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import ObjectStoreFullError, OutOfDiskError, OutOfMemoryError, RayActorError

from kinescribe.actors.attempts import RemoteAttempts, StartedInVain
from kinescribe.actors.decode import DecodeActor, Extractor, MakeExtractor
from kinescribe.actors.label import LabelActor, LoadModels
from kinescribe.actors.rows import pack, unpack
from kinescribe.actors.write import WriteActor
from kinescribe.cluster.pending_resources import waiting_told
from kinescribe.cluster.progress import RESUME, Progress, open_progress
from kinescribe.cluster.ray_session import ray_cluster
from kinescribe.cluster.resources import Pool, PoolPlan, plan_pools
from kinescribe.labeling.extract import PairExtractor
from kinescribe.labeling.inputs import clip_frames, forbidden, input_root
from kinescribe.labeling.units import plan_units, unit_ids, units_of
from kinescribe.models.checkpoint_files import (
    EMBEDDED,
    codec_folder,
    identify,
    identify_codec,
    model_folder,
    weight_bytes,
)
from kinescribe.schemas.clips import WorkUnit
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.errors import ConfigError, DatasetError, InputError, StoreError, UserError
from kinescribe.schemas.outcomes import Receipt, Status, too_many_rejects
from kinescribe.schemas.version import VERSION
from kinescribe.storage import uri
from kinescribe.storage.audit import DatasetStatus, outcomes
from kinescribe.storage.card import write_card
from kinescribe.storage.clips import StoredClips
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import num_retries, plan_uri, read_plan, write_plan, write_plan_tables
from kinescribe.storage.run import Run, bind, require_own
from kinescribe.storage.shards import committed_units

if TYPE_CHECKING:
    from kinescribe.models.codec import ImageCodec
    from kinescribe.models.dynamics import DynamicsModel

MOST_BLOCKS = 10_000
"""A block costs Ray Data about 10 ms a stage; more units than this share blocks."""
UNITS_PER_PART = 1024
"""A table of Arrow for each of many units would take more memory than what it holds."""
FULL = (
    "Ray's object store and the disk that it spills to are full; make room in its folder (RAY_TMPDIR, else "
    "/tmp), or take fewer --decode-workers, then run the same command again"
)
NO_MEMORY = (
    "Ray's workers were killed again and again before they came to any work, as where a node's memory runs "
    "short; take fewer --label-workers or more memory, then run the same command again"
)


def _pair_extractor(config: LabelConfig, root: str) -> Extractor:
    may_not = partial(forbidden, root=root, roots=config.roots)
    return PairExtractor(config.limits, config.keyframes, config.image, may_not)


def _load_models(config: LabelConfig) -> tuple[DynamicsModel[Any], ImageCodec]:
    from kinescribe.models.registry import load_labeller

    return load_labeller(config)


@dataclass(frozen=True, slots=True)
class Sessions:
    """What makes the session objects that the pools' actors hold."""

    make_extractor: MakeExtractor = _pair_extractor
    load_models: LoadModels = _load_models


@dataclass(frozen=True, slots=True)
class Job:
    """A labelling run, as the user asked for it."""

    input: str
    out: str
    config: LabelConfig
    resources: Resources
    sessions: Sessions


def run_label(
    input: str,
    out: str,
    config: LabelConfig,
    resources: Resources,
    progress: Progress | None = None,
    sessions: Sessions = Sessions(),
    retry_rejected: bool = False,
) -> DatasetStatus:
    """Label the clips of `input` into the dataset `out`; where it was begun before, what is left of it.

    `retry_rejected` tries the clips again that were rejected so far, whatever share of all they are. What
    comes of them takes the place of their reject; nothing else changes.

    Raises InputError, ModelError or DatasetError before anything is started, InputError with the table of
    reasons where more than `config.max_reject_rate` of the clips were rejected, and StoreError where a unit
    cannot be written.
    """
    if retry_rejected:
        config = config.model_copy(update={"max_reject_rate": 1.0})
    job = Job(input, uri.absolute(out), _anywhere(config), resources, sessions)
    run, clips = planned_run(input, config, sessions)
    bind(out, run)
    ids = unit_ids(clips.ids(), config.clips_per_unit, run.fingerprint)
    write_plan_tables(out, clips.planned(ids, config.clips_per_unit))
    if retry_rejected:
        _plan_retry(job, run, clips)
    retries = _retries(out, run, clips)
    committed = committed_units(out)
    if not committed:
        # Before the first row, or `load_dataset` of a run that died would take the plan for rows.
        write_card(out)
    planned = dict.fromkeys(ids, config.clips_per_unit)
    planned[ids[-1]] = len(clips) - config.clips_per_unit * (len(ids) - 1)
    planned |= {unit.unit_id: len(unit.clips) for unit in retries}
    if pending := planned.keys() - committed:
        progress = progress or open_progress()
        left = sum(planned[unit_id] for unit_id in pending)
        progress.start(sum(planned.values()), sum(planned.values()) - left)
        units = chain(units_of(clips, ids, config.clips_per_unit), retries)
        try:
            _label(job, _rows(unit for unit in units if unit.unit_id in pending), progress)
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


def plan_label(input: str, out: str, config: LabelConfig) -> LabelPlan:
    """What `run_label` would do. Starts and writes nothing; raises what it raises before it starts."""
    run, clips = planned_run(input, config, Sessions())
    require_own(out, run)
    ids = unit_ids(clips.ids(), config.clips_per_unit, run.fingerprint)
    ids += [unit.unit_id for unit in _retries(out, run, clips)]
    videos = pl.concat(clips.frames(["uri", "action_class", "size_bytes"]))
    return LabelPlan(
        clips=len(clips),
        action_classes=videos["action_class"].drop_nulls().n_unique(),
        size_bytes=videos.group_by("uri").agg(pl.max("size_bytes"))["size_bytes"].sum(),
        units=len(ids),
        pending_units=len(set(ids) - committed_units(out)),
    )


def planned_run(input: str, config: LabelConfig, sessions: Sessions) -> tuple[Run, StoredClips]:
    """The run that the configuration, the models and the clips of the input make."""
    model, codec = identify(config.dynamics), identify_codec(codec_folder(config.dynamics, config.codec))
    if config.annotation.scores == "likelihood,contrast":
        model_folder(config.dynamics)  # a server scores no given action
    with closing(sessions.make_extractor(config, input_root(input))) as extractor:
        clips = StoredClips(clip_frames(input, config.limits, extractor.duration_s, config.roots))
    run = Run(
        version=VERSION,
        config=config.model_dump(mode="json"),
        models={"dynamics": model.fingerprint},
        codec_id=codec.id,
        grid=codec.grid,
        plan=clips.digest,
    )
    return run, clips


def _anywhere(config: LabelConfig) -> LabelConfig:
    """The configuration with models' folders in full: a Ray that runs already works in another folder."""
    names = {"dynamics": config.dynamics, "codec": config.codec}
    folders = {key: name for key, name in names.items() if name and name not in EMBEDDED}
    full = {key: uri.absolute(name) for key, name in folders.items() if Path(name).is_dir()}
    return config.model_copy(update=full)


def _plan_retry(job: Job, run: Run, clips: StoredClips) -> None:
    """Plan new units for the clips that were rejected and wait in no unit of an earlier retry."""
    committed, retry = committed_units(job.out), num_retries(job.out) + 1
    again = {
        end.clip_id for end in outcomes(Dataset.open(job.out).footers()) if end.status is Status.REJECTED
    }
    for unit in _retries(job.out, run, clips):
        if unit.unit_id not in committed:
            again -= {clip.clip_id for clip in unit.clips}
    if some := [clip for clip in clips if clip.clip_id in again]:
        write_plan(job.out, plan_units(some, job.config.clips_per_unit, _retry_name(run, retry)), retry)


def _retries(out: str, run: Run, clips: StoredClips) -> list[WorkUnit]:
    """The units of every retry, their clips where this run's input has them.

    Raises DatasetError where a unit is not this run's: its id says under which name it is written.
    """
    units = [(retry, unit) for retry in range(1, num_retries(out) + 1) for unit in read_plan(out, retry)]
    wanted = {clip.clip_id for _, unit in units for clip in unit.clips}
    found = {clip.clip_id: clip for clip in clips if clip.clip_id in wanted} if wanted else {}
    again: list[WorkUnit] = []
    for retry, unit in units:
        known = [found[clip.clip_id] for clip in unit.clips if clip.clip_id in found]
        planned = plan_units(known, len(unit.clips), _retry_name(run, retry))
        if [one.unit_id for one in planned] != [unit.unit_id]:
            raise DatasetError(f"{plan_uri(out, retry)} is no plan of this run; move it away")
        again += planned
    return again


def _retry_name(run: Run, retry: int) -> str:
    """What the ids of a retry's units are made with, beside their clips."""
    return f"{run.fingerprint}/{retry}"


def _rows(units: Iterator[WorkUnit]) -> pa.Table:
    """The units as rows of the pipeline."""
    parts = iter(lambda: [pack(unit.unit_id, unit) for unit in islice(units, UNITS_PER_PART)], [])
    return pa.concat_tables([pa.concat_tables(some).combine_chunks() for some in parts])


def _label(job: Job, pending: pa.Table, progress: Progress) -> None:
    total = Receipt()
    left = pending.num_rows
    with ray_cluster() as cluster, waiting_told(progress.note) as came:
        plan = plan_pools(cluster, job.resources, left, weight_bytes(job.config.dynamics))
        progress.note(plan.reason)
        try:
            for receipt in _receipts(job, pending, plan):
                if isinstance(receipt, UserError):
                    raise receipt
                came()
                progress.update(receipt)
                total, left = total + receipt, left - 1
                if left and (problem := too_many_rejects(total, job.config.max_reject_rate)):
                    raise InputError(problem)
        except (OutOfDiskError, ObjectStoreFullError) as error:
            raise StoreError(FULL) from error
        except (OutOfMemoryError, RayActorError) as error:
            if isinstance(error, OutOfMemoryError) or StartedInVain.__name__ in str(error):
                raise ConfigError(NO_MEMORY) from error
            raise
        except (KeyboardInterrupt, SystemExit):  # SIGTERM, as `kinescribe jobs stop` sends it
            # Before Ray is shut down, which takes seconds.
            progress.note(RESUME)
            raise


def _receipts(job: Job, pending: pa.Table, plan: PoolPlan) -> Iterator[Receipt | UserError]:
    """The receipt of each unit as it is committed, in no order, or why it cannot be."""
    _silence_ray_data()
    attempts = RemoteAttempts(plan.decode.most + plan.label.most)
    config, sessions = job.config, job.sessions
    extractor = (sessions.make_extractor, config, input_root(job.input), attempts)
    decode, label, write = plan.decode, plan.label, plan.write
    model = (sessions.load_models, config, job.resources.micro_batch, label.threads, label.gpus, attempts)
    receipts = (
        ray.data.from_arrow(pending, override_num_blocks=min(pending.num_rows, MOST_BLOCKS))
        .map_batches(DecodeActor, fn_constructor_args=extractor, compute=_actors(decode), **_claims(decode))
        .map_batches(LabelActor, fn_constructor_args=model, compute=_actors(label), **_claims(label))
        .map_batches(WriteActor, fn_constructor_args=(job.out,), compute=_actors(write), **_claims(write))
    )
    for batch in receipts.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
        yield unpack(batch)


def _actors(pool: Pool) -> ActorPoolStrategy:
    """An actor is sent the next block of units while it is at one, and loses only that one when it dies."""
    return ActorPoolStrategy(
        min_size=pool.least,
        max_size=pool.most,
        initial_size=pool.workers,
        max_tasks_in_flight_per_actor=2,
    )


def _claims(pool: Pool) -> dict[str, object]:
    claims: dict[str, object] = {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": pool.cpus}
    return claims | ({"num_gpus": pool.gpus} if pool.gpus else {})


def _silence_ray_data() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
