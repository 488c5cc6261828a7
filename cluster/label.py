"""`kinescribe label` on Ray: plan, decode, label and commit every unit that is not committed yet.

The pools do the work and the units' objects hold the state, so this module can die at any moment and be
run again. Knows nothing of decoding, models or Parquet.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import ObjectStoreFullError, OutOfDiskError, OutOfMemoryError, RayActorError

from actors.attempts import RemoteAttempts, StartedInVain
from actors.decode import DecodeActor, Extractor, MakeExtractor
from actors.label import LabelActor, LoadModels
from actors.rows import pack, unpack
from actors.write import WriteActor
from cluster.local import ray_cluster
from cluster.progress import Progress, open_progress
from cluster.resources import Pool, PoolPlan, plan_pools
from labeling.extract import PairExtractor
from labeling.inputs import forbidden, input_root, list_clips
from labeling.units import plan_units
from models.identity import codec_folder, identify, identify_codec, model_folder
from schemas.clips import Clip, WorkUnit
from schemas.config import LabelConfig, Resources
from schemas.errors import ConfigError, DatasetError, InputError, StoreError, UserError
from schemas.outcomes import Receipt, Status, too_many_rejects
from schemas.version import VERSION
from storage.audit import DatasetStatus, outcomes, status
from storage.card import write_card
from storage.run import Run, bind, num_retries, plan_digest, plan_uri, read_plan, require_own, write_plan
from storage.shards import committed_units

if TYPE_CHECKING:
    from models.codec import ImageCodec
    from models.dynamics import DynamicsModel

MOST_BLOCKS = 10_000
"""A block costs Ray Data about 10 ms a stage; more units than this share blocks."""
FULL = (
    "Ray's object store and the disk that it spills to are full; make room in its folder (RAY_TMPDIR, else "
    "/tmp), or take fewer --decode-workers, then run the same command again"
)
NO_MEMORY = (
    "Ray's workers were killed again and again before they came to any work, as where a node's memory runs "
    "short; take fewer --label-workers or more memory, then run the same command again"
)
RESUME = "stopped; run the same command again to resume"


def _pair_extractor(config: LabelConfig, root: str) -> Extractor:
    may_not = partial(forbidden, root=root, roots=config.roots)
    return PairExtractor(config.limits, config.keyframes, config.image, may_not)


def _load_models(config: LabelConfig) -> tuple[DynamicsModel[Any], ImageCodec]:
    from models.registry import load_labeller

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
    job = Job(input, out, config, resources, sessions)
    run, units = _bind_units(job)
    if retry_rejected:
        _plan_retry(job, run, units)
    units += _retries(out, run, units)
    committed = committed_units(out)
    if not committed:
        # Before the first row, or `load_dataset` of a run that died would take the plan for rows.
        write_card(out)
    pending = [unit for unit in units if unit.unit_id not in committed]
    if pending:
        total = sum(len(unit.clips) for unit in units)
        done = total - sum(len(unit.clips) for unit in pending)
        progress = progress or open_progress()
        progress.start(total, done)
        try:
            _label(job, pending, progress)
        finally:
            progress.stop()
    write_card(out)
    return status(out)


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
    run, clips = _planned(input, config, Sessions())
    require_own(out, run)
    units, committed = plan_units(clips, config.clips_per_unit, run.fingerprint), committed_units(out)
    units += _retries(out, run, units)
    return LabelPlan(
        clips=len(clips),
        action_classes=len({clip.action_class for clip in clips} - {None}),
        size_bytes=sum({clip.uri: clip.size_bytes or 0 for clip in clips}.values()),
        units=len(units),
        pending_units=sum(unit.unit_id not in committed for unit in units),
    )


def _bind_units(job: Job) -> tuple[Run, list[WorkUnit]]:
    """This run and its units, with the dataset bound to it."""
    run, clips = _planned(job.input, job.config, job.sessions)
    bind(job.out, run)
    units = plan_units(clips, job.config.clips_per_unit, run.fingerprint)
    write_plan(job.out, units)
    return run, units


def _planned(input: str, config: LabelConfig, sessions: Sessions) -> tuple[Run, list[Clip]]:
    """The run that the configuration, the models and the clips of the input make."""
    model, codec = identify(config.dynamics), identify_codec(codec_folder(config.dynamics, config.codec))
    if config.annotation.scores == "likelihood,contrast":
        model_folder(config.dynamics)  # a server scores no given action
    with closing(sessions.make_extractor(config, input_root(input))) as extractor:
        clips = list_clips(input, config.limits, extractor.duration_s, config.roots)
    run = Run(
        version=VERSION,
        config=config.model_dump(mode="json"),
        models={"dynamics": model.fingerprint},
        codec_id=codec.id,
        grid=codec.grid,
        plan=plan_digest(clips),
    )
    return run, clips


def _plan_retry(job: Job, run: Run, units: Sequence[WorkUnit]) -> None:
    """Plan new units for the clips that were rejected and wait in no unit of an earlier retry."""
    committed, retry = committed_units(job.out), num_retries(job.out) + 1
    again = {end.clip_id for end in outcomes(job.out, committed) if end.status is Status.REJECTED}
    for unit in _retries(job.out, run, units):
        if unit.unit_id not in committed:
            again -= {clip.clip_id for clip in unit.clips}
    clips = [clip for unit in units for clip in unit.clips if clip.clip_id in again]
    if clips:
        write_plan(job.out, plan_units(clips, job.config.clips_per_unit, _retry_name(run, retry)), retry)


def _retries(out: str, run: Run, units: Sequence[WorkUnit]) -> list[WorkUnit]:
    """The units of every retry, their clips where this run's input has them.

    Raises DatasetError where a unit is not this run's: its id says under which name it is written.
    """
    clips = {clip.clip_id: clip for unit in units for clip in unit.clips}
    again: list[WorkUnit] = []
    for retry in range(1, num_retries(out) + 1):
        for unit in read_plan(out, retry):
            known = [clips[clip.clip_id] for clip in unit.clips if clip.clip_id in clips]
            planned = plan_units(known, len(unit.clips), _retry_name(run, retry))
            if [one.unit_id for one in planned] != [unit.unit_id]:
                raise DatasetError(f"{plan_uri(out, retry)} is no plan of this run; move it away")
            again += planned
    return again


def _retry_name(run: Run, retry: int) -> str:
    """What the ids of a retry's units are made with, beside their clips."""
    return f"{run.fingerprint}/{retry}"


def _label(job: Job, pending: Sequence[WorkUnit], progress: Progress) -> None:
    total = Receipt()
    left = len(pending)
    with ray_cluster() as cluster:
        plan = plan_pools(cluster, job.resources, len(pending))
        progress.note(plan.reason)
        try:
            for receipt in _receipts(job, pending, plan):
                if isinstance(receipt, UserError):
                    raise receipt
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
        except KeyboardInterrupt:
            # Before Ray is shut down, which takes seconds, and may end this process at once.
            progress.note(RESUME)
            raise


def _receipts(job: Job, pending: Sequence[WorkUnit], plan: PoolPlan) -> Iterator[Receipt | UserError]:
    """The receipt of each unit as it is committed, in no order, or why it cannot be."""
    _silence_ray_data()
    attempts = RemoteAttempts(plan.decode.workers + plan.label.workers)
    config, sessions = job.config, job.sessions
    rows = pa.concat_tables([pack(unit.unit_id, unit) for unit in pending])
    extractor = (sessions.make_extractor, config, input_root(job.input), attempts)
    model = (sessions.load_models, config, job.resources.micro_batch, plan.label.threads, attempts)
    decode, label, write = plan.decode, plan.label, plan.write
    receipts = (
        ray.data.from_arrow(rows, override_num_blocks=min(len(pending), MOST_BLOCKS))
        .map_batches(DecodeActor, fn_constructor_args=extractor, compute=_actors(decode), **_claims(decode))
        .map_batches(LabelActor, fn_constructor_args=model, compute=_actors(label), **_claims(label))
        .map_batches(WriteActor, fn_constructor_args=(job.out,), compute=_actors(write), **_claims(write))
    )
    for batch in receipts.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
        yield unpack(batch)


def _actors(pool: Pool) -> ActorPoolStrategy:
    return ActorPoolStrategy(size=pool.workers, max_tasks_in_flight_per_actor=2)


def _claims(pool: Pool) -> dict[str, object]:
    claims: dict[str, object] = {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": pool.cpus}
    return claims | ({"num_gpus": pool.gpus} if pool.gpus else {})


def _silence_ray_data() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
