"""The labelling pipeline on Ray Data: decodes, labels and commits units, and returns a receipt of each.

The pools do the work and the units' objects hold the state, so the driver may die at any moment. Knows
nothing of decoding, models or Parquet.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.block import Block
from ray.exceptions import (
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayError,
)

from kinescribe.actors.attempts import RemoteAttempts, WorkersKeepDying
from kinescribe.actors.decode import DecodeActor, MakeExtractor
from kinescribe.actors.label import LabelActor, LoadModels
from kinescribe.actors.rows import unpack
from kinescribe.actors.write import WriteActor
from kinescribe.cluster.pending_resources import report_pending
from kinescribe.cluster.progress import LabelProgress, noting_resume
from kinescribe.cluster.ray_session import ray_cluster
from kinescribe.cluster.resources import Pool, PoolPlan, plan_pools, units_asked_at_once
from kinescribe.labeling.extract import PairExtractor
from kinescribe.labeling.inputs import forbidden, input_root
from kinescribe.models.checkpoint_files import weight_bytes
from kinescribe.models.endpoint import is_endpoint
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.errors import ConfigError, InputError, StoreError, UserError
from kinescribe.schemas.outcomes import Receipt, too_many_rejects

if TYPE_CHECKING:
    from kinescribe.models.codec import ImageCodec
    from kinescribe.models.dynamics import DynamicsModel

MOST_BLOCKS = 10_000
"""A block costs Ray Data about 10 ms a stage; more units than this share blocks."""
POLL_S = 0.25
FULL = (
    "Ray's object store and the disk that it spills to are full; free some space in its folder (RAY_TMPDIR, "
    "else /tmp), or take fewer decode workers, then run the same command again"
)
NO_MEMORY = (
    "Ray's workers were killed again and again before they began any work, as happens when a node's memory "
    "runs short; take fewer label workers or more memory, then run the same command again"
)


def _pair_extractor(config: LabelConfig, root: str) -> PairExtractor:
    is_forbidden = partial(forbidden, root=root, roots=config.roots)
    return PairExtractor(
        config.limits,
        config.keyframes,
        config.image,
        is_forbidden,
        quality=config.quality,
        context_frames=config.annotation.context_frames,
    )


def _load_models(config: LabelConfig) -> tuple[DynamicsModel[Any], ImageCodec]:
    from kinescribe.models.registry import load_labeller  # imports torch, which the driver doesn't need

    return load_labeller(config)


@dataclass(frozen=True, slots=True)
class Sessions:
    """Makes the session objects to which the pools' actors delegate; tests replace them."""

    make_extractor: MakeExtractor = _pair_extractor
    load_models: LoadModels = _load_models


DEFAULT_SESSIONS = Sessions()


@dataclass(frozen=True, slots=True)
class LabelJob:
    """What a labelling run was asked to do, with absolute paths."""

    input: str
    out: str
    config: LabelConfig
    resources: Resources
    sessions: Sessions


def run_pipeline(
    job: LabelJob, pending: pa.Table, progress: LabelProgress, note_commit: Callable[[], object]
) -> None:
    """Label and commit the pending units, which are rows of the pipeline; call `note_commit` for each.

    Raises what `run_label` does once it has started.
    """
    with ExitStack() as session, noting_resume(progress.note):
        cluster = session.enter_context(ray_cluster(progress.note))
        note_arrival = session.enter_context(report_pending(progress.note))
        config, asked = job.config, 0
        if is_endpoint(config.dynamics):
            asked = units_asked_at_once(job.resources.concurrency, config.clips_per_unit)
        size_bytes = weight_bytes(config.dynamics)
        plan = plan_pools(cluster, job.resources, pending.num_rows, size_bytes, asked)
        progress.note(plan.reason)
        with _translated_errors():
            _commit_all(job, pending, plan, progress, note_commit, note_arrival)


def _commit_all(
    job: LabelJob,
    pending: pa.Table,
    plan: PoolPlan,
    progress: LabelProgress,
    note_commit: Callable[[], object],
    note_arrival: Callable[[], object],
) -> None:
    """Take in the receipts until the last unit is committed, or until too many clips are rejected."""
    total = Receipt()
    for num_done, receipt in enumerate(_receipts(job, pending, plan, progress), 1):
        note_arrival()
        if isinstance(receipt, UserError):
            raise receipt
        note_commit()
        progress.update(receipt)
        total += receipt
        problem = too_many_rejects(total, job.config.max_reject_rate)
        if problem and num_done < pending.num_rows:
            raise InputError(problem)


@contextmanager
def _translated_errors() -> Generator[None]:
    """Turn Ray's errors about full disks and memory into errors for the user."""
    try:
        yield
    except (OutOfDiskError, ObjectStoreFullError) as error:
        raise StoreError(FULL) from error
    except (OutOfMemoryError, RayActorError) as error:
        if isinstance(error, OutOfMemoryError) or WorkersKeepDying.__name__ in str(error):
            raise ConfigError(NO_MEMORY) from error
        raise


def _receipts(
    job: LabelJob, pending: pa.Table, plan: PoolPlan, progress: LabelProgress
) -> Iterator[Receipt | UserError]:
    """The receipt of each unit as it is committed, in no order, or the error that prevented its commit."""
    _silence_ray_data()
    attempts = RemoteAttempts(plan.decode.most + plan.label.most)
    config, sessions = job.config, job.sessions
    extractor = (sessions.make_extractor, config, input_root(job.input), attempts)
    decode, label, write = plan.decode, plan.label, plan.write
    model = (sessions.load_models, config, job.resources, label.threads, label.gpus, attempts)
    receipts = (
        ray.data.from_blocks(_blocks(pending))
        .map_batches(DecodeActor, fn_constructor_args=extractor, compute=_actors(decode), **_claims(decode))
        .map_batches(LabelActor, fn_constructor_args=model, compute=_actors(label), **_claims(label))
        .map_batches(WriteActor, fn_constructor_args=(job.out,), compute=_actors(write), **_claims(write))
    )
    progress.note(plan.loading)
    with _report_news(attempts, progress):
        for batch in receipts.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
            yield unpack(batch)


def _blocks(rows: pa.Table) -> list[Block]:
    """The rows in blocks, which `from_arrow` would count one by one in tasks."""
    size = -(-rows.num_rows // MOST_BLOCKS)
    return [rows.slice(first, size) for first in range(0, rows.num_rows, size)]


@contextmanager
def _report_news(attempts: RemoteAttempts, progress: LabelProgress) -> Generator[None]:
    """Tell `progress` when the first model is loaded, and what the workers note."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(POLL_S):
            with suppress(RayError):  # the pipeline itself meets what is wrong
                num_loaded, notes = attempts.news()
                if num_loaded:
                    progress.workers_ready()
                for note in notes:
                    progress.note(note)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _actors(pool: Pool) -> ActorPoolStrategy:
    """An actor gets its next block while it works on others; if it dies, only these are repeated."""
    return ActorPoolStrategy(
        min_size=pool.least,
        max_size=pool.most,
        initial_size=pool.workers,
        max_tasks_in_flight_per_actor=pool.units_at_once + 1,
        max_concurrent_calls_per_actor=pool.units_at_once,
        enable_true_multi_threading=pool.units_at_once > 1,
    )


def _claims(pool: Pool) -> dict[str, Any]:
    claims: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": pool.cpus}
    return claims | ({"num_gpus": pool.gpus} if pool.gpus else {})


def _silence_ray_data() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
