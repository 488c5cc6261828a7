"""Trains on Ray: binds the folder to the run, starts the workers, passes on what they report.

Knows Ray Train; nothing of models or of what a step is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.pool import AsyncResult, ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue

from kinescribe.actors.train_worker import train_worker
from kinescribe.cluster.pending_resources import report_pending
from kinescribe.cluster.progress import RESUME
from kinescribe.cluster.ray_session import ray_cluster
from kinescribe.cluster.resources import ClusterResources
from kinescribe.models.checkpoint_files import EMBEDDED, identify
from kinescribe.models.hub import hub_model
from kinescribe.schemas.clips import stable_id
from kinescribe.schemas.errors import ConfigError, UserError
from kinescribe.schemas.training import Engine, TokenTraining, TrainConfig, WorldTraining
from kinescribe.schemas.version import VERSION
from kinescribe.storage import uri
from kinescribe.storage.dataset import open_datasets
from kinescribe.storage.run import RUN, Run, bind, require_own
from kinescribe.storage.selection import read_selection

if TYPE_CHECKING:
    from kinescribe.training.dry_run import TrainingPlan

Progress = Callable[[Mapping[str, float]], None]
POLL_S = 0.5
STEP = ("step", "steps")


def run_train(config: TrainConfig, progress: Progress | None = None) -> Path:
    """Train to the end and return the export's folder; run again to resume, or to find it finished.

    Raises UserError for what the user can mend, before any worker starts where that is possible.
    """
    run, config = _identity(config), absolute(config)
    bind(config.out, run)
    export = Path(config.out, "export")
    if not export.is_dir():
        with _left_as_it_was(config.out), ray_cluster() as cluster:
            try:
                _fit(config, cluster, progress or print_progress)
            except (KeyboardInterrupt, SystemExit):
                _say(RESUME)
                raise
    return export


@contextmanager
def _left_as_it_was(out: str) -> Generator[None]:
    """A folder without a checkpoint is free again after a user's error, for the mended command."""
    try:
        yield
    except UserError:
        if not Path(out, "checkpoints").exists():
            Path(out, RUN).unlink(missing_ok=True)
        raise


def plan_train(config: TrainConfig) -> TrainingPlan:
    """What `run_train` would do. Starts and writes nothing; raises UserError for what would stop it."""
    from kinescribe.training.dry_run import (
        dry_run,
    )  # imports DeepSpeed, for which the driver has no other use

    require_own(config.out, _identity(config))
    return dry_run(config)


def absolute(config: TrainConfig) -> TrainConfig:
    """The configuration with every local path absolute: Ray Train's workers run in another folder."""
    changes: dict[str, Any] = {
        "out": uri.absolute(config.out),
        "data": tuple(map(uri.absolute, config.data)),
        "held_out": tuple(map(uri.absolute, config.held_out)),
    }
    init = getattr(config, "init", None)
    if init and init not in EMBEDDED and not hub_model(init):
        changes["init"] = uri.absolute(init)
    if isinstance(config, WorldTraining) and config.select:
        changes["select"] = uri.absolute(config.select)
    if isinstance(config, TokenTraining) and config.model:
        changes["model"] = config.model.model_copy(update={"codec": uri.absolute(config.model.codec)})
    return config.model_copy(update=changes)


def print_progress(metrics: Mapping[str, float]) -> None:
    """A line on stderr, as stdout is for results: `step 40/100: loss 1.23, samples_per_s 31, left_s 124`."""
    measured = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name not in STEP)
    _say(f"step {metrics['step']}/{metrics['steps']}: {measured}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _identity(config: TrainConfig) -> Run:
    """What the weights are a function of; any change of it is another run."""
    if not uri.is_local(config.out):
        raise ConfigError(f"out must be a local or shared folder, got {config.out}; upload the export after")
    datasets = open_datasets(config.data)
    values = config.model_dump(mode="json", exclude={"out", "data", "held_out", "select"})
    if isinstance(config, WorldTraining) and config.select:
        values["select"] = read_selection(config.select).digest
    objects = [sorted(Path(file).name for file in dataset.scan().files) for dataset in datasets.values()]
    models: dict[str, str] = {}
    if isinstance(config, TokenTraining) and config.init:
        models["init"] = identify(config.init).fingerprint
    return Run(VERSION, values, models, codec_id="none", grid=(0, 0), plan=stable_id(*objects))


def worker_claims(cluster: ClusterResources, engine: Engine) -> dict[str, float]:
    """What each worker claims of the cluster: a GPU where there is one, and as much of a core as there is.

    Raises ConfigError where a GPU is asked for that can't come.
    """
    wants_gpu = engine.accelerator == "gpu"
    if wants_gpu and not (cluster.gpus or cluster.grows):
        raise ConfigError("engine.accelerator is gpu, and this machine has none; leave it out")
    # Where no machine is there yet but a head that works on nothing, this is what brings one.
    cpus = min(1.0, cluster.cpus / (engine.workers + 1)) if cluster.cpus else 1.0
    return {"CPU": cpus} | ({"GPU": 1.0} if cluster.gpus or wants_gpu else {})


def _fit(config: TrainConfig, cluster: ClusterResources, progress: Progress) -> None:
    workers, fewest = config.engine.workers, config.engine.min_workers
    threads = max(1, int(cluster.cpus) // workers)
    claims = worker_claims(cluster, config.engine)
    # Beside the driver: a machine of the workers may be lost.
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    reports = Queue(actor_options={"num_cpus": 0, "label_selector": here})
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"config": config, "reports": reports, "threads": threads},
        torch_config=TorchConfig(backend="nccl" if "GPU" in claims else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(fewest, workers) if fewest else workers,
            use_gpu="GPU" in claims,
            resources_per_worker=claims,
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=config.out,
            failure_config=FailureConfig(max_failures=config.engine.max_failures),
        ),
    )
    # In the main thread, Ray Train takes Ctrl-C for itself, and hangs where it waits for machines.
    beside = ThreadPool(1)
    fitted = beside.apply_async(trainer.fit)
    beside.close()
    errors = list[UserError]()
    with report_pending(_say) as note_progress:
        for report in _reports(reports, fitted):
            note_progress()
            if isinstance(report, UserError):
                errors.append(report)
            elif isinstance(report, str):
                _say(report)
            else:
                progress(report)
    if errors:
        raise errors[0]
    fitted.get()


def _reports(queue: Queue, fitted: AsyncResult[Any]) -> Iterator[Mapping[str, float] | str | UserError]:
    """What the workers report, until all is over."""
    while not (fitted.ready() and queue.empty()):
        try:
            yield queue.get(timeout=POLL_S)
        except Empty:
            continue
