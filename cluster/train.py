"""Trains on Ray: binds the folder to the run, starts the workers, and prints what they report.

Knows nothing of models or steps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.util.queue import Empty, Queue

from kinescribe.actors.train_worker import fit
from kinescribe.cluster.pending_resources import report_pending
from kinescribe.cluster.progress import noting_resume
from kinescribe.cluster.ray_session import ray_cluster
from kinescribe.cluster.resources import ClusterResources
from kinescribe.models.checkpoint_files import EMBEDDED, family_named, identify
from kinescribe.models.families import CHAT
from kinescribe.models.hub import hub_model
from kinescribe.schemas.clips import stable_id
from kinescribe.schemas.errors import ConfigError, UserError
from kinescribe.schemas.training import (
    DynamicsTraining,
    Engine,
    TokenTraining,
    TrainConfig,
    WorldTraining,
)
from kinescribe.schemas.version import VERSION
from kinescribe.storage import uri
from kinescribe.storage.dataset import open_datasets
from kinescribe.storage.examples import examples_id
from kinescribe.storage.run import RUN, Run, bind, require_own
from kinescribe.storage.selection import read_selection
from kinescribe.training.exports import EXPORT, remove_abandoned

if TYPE_CHECKING:
    from kinescribe.training.dry_run import TrainingPlan

ShowMetrics = Callable[[Mapping[str, float]], None]
POLL_S = 0.5
CHECKPOINTS = "checkpoints"
STEP = ("step", "steps")
NEXT = {
    "codec": "train a dynamics model on it: kinescribe train dynamics … --set model.codec={export}",
    "dynamics": "label with it: kinescribe label VIDEOS --out DATASET --dynamics {export}",
    "world": "draw with it: kinescribe imagine --world {export} --source IMAGE --action TEXT",
}
"""What to do with an export, by the task that it is of."""


def run_train(config: TrainConfig, progress: ShowMetrics | None = None) -> Path:
    """Train to the end and return the folder of the export. Run again to resume.

    A finished run does nothing. Raises UserError for everything the user can fix, if possible before any
    worker starts.
    """
    run, config = _identity(config), absolute(config)
    bind(config.out, run)
    export = Path(config.out, EXPORT)
    if export.is_dir():
        remove_abandoned(Path(config.out))
    else:
        _say("starting Ray")
        with _unbound_after_error(config.out), ExitStack() as session, noting_resume(_say):
            cluster = session.enter_context(ray_cluster())
            _fit(config, cluster, progress or print_progress)
    task = getattr(config, "task", "")
    _say(f"the export is in {export}; {NEXT[task].format(export=export)}")
    return export


@contextmanager
def _unbound_after_error(out: str) -> Generator[None]:
    """After a user's error, free a folder without checkpoints for the corrected command."""
    try:
        yield
    except UserError:
        if not Path(out, CHECKPOINTS).exists():
            Path(out, RUN).unlink(missing_ok=True)
        raise


def plan_train(config: TrainConfig) -> TrainingPlan:
    """The size of the training that `run_train` would do. Starts and writes nothing.

    Raises UserError for everything that would stop the training.
    """
    # Imported here, because it imports DeepSpeed, which the driver needs for nothing else.
    from kinescribe.training.dry_run import dry_run

    require_own(config.out, _identity(config))
    return dry_run(config)


def absolute(config: TrainConfig) -> TrainConfig:
    """The configuration with absolute local paths, since Ray Train's workers run in another folder."""
    changes: dict[str, Any] = {
        "out": uri.absolute(config.out),
        "data": tuple(map(uri.absolute, config.data)),
        "held_out": tuple(map(uri.absolute, config.held_out)),
    }
    if isinstance(config, DynamicsTraining) and config.examples:
        changes["examples"] = uri.absolute(config.examples)
    init = getattr(config, "init", None)
    if init and init not in EMBEDDED and not hub_model(init):
        changes["init"] = uri.absolute(init)
    if isinstance(config, WorldTraining) and config.select:
        changes["select"] = uri.absolute(config.select)
    if isinstance(config, TokenTraining) and config.model:
        changes["model"] = config.model.model_copy(update={"codec": uri.absolute(config.model.codec)})
    return config.model_copy(update=changes)


def print_progress(metrics: Mapping[str, float]) -> None:
    """Print a line like `step 40/100: loss 1.23, samples_per_s 31, left_s 124` to stderr."""
    measured = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name not in STEP)
    _say(f"step {metrics['step']}/{metrics['steps']}: {measured}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _identity(config: TrainConfig) -> Run:
    """Everything that decides the weights; if any of it changes, it is another run."""
    if not uri.is_local(config.out):
        raise ConfigError(f"out must be a local or shared folder, got {config.out}; upload the export after")
    _require_unclaimed(Path(config.out))
    datasets = open_datasets(config.data)  # raises if a dataset is named twice
    values = config.model_dump(mode="json", exclude={"out", "data", "held_out", "select"})
    if isinstance(config, WorldTraining) and config.select:
        values["select"] = read_selection(config.select).digest
    objects = [sorted(Path(file).name for file in dataset.scan().files) for dataset in datasets.values()]
    models: dict[str, str] = {}
    if isinstance(config, DynamicsTraining | WorldTraining) and config.init:
        family = family_named(config.init)
        family.require_trainable(config.init, config.task)
        if isinstance(config, DynamicsTraining):
            config.require_asked("", config.init, family.noun, family.asks)
            if config.names and family is not CHAT:
                raise ConfigError(
                    f"question: {config.init} is {family.noun}, which learns one question for all rows; "
                    f"leave {{{min(config.names)}}} out"
                )
            values["examples"] = examples_id(config)
        models["init"] = identify(config.init).fingerprint
    return Run(VERSION, values, models, codec_id="none", grid=(0, 0), plan=stable_id(*objects))


def _require_unclaimed(out: Path) -> None:
    """Raises ConfigError if the folder has no run, but what a run would take for its own."""
    if not (out / RUN).exists():
        for name in (EXPORT, CHECKPOINTS):
            if (out / name).exists():
                raise ConfigError(f"{out} contains {name} but no {RUN}; choose an empty folder")


def worker_claims(cluster: ClusterResources, engine: Engine) -> dict[str, float]:
    """The resources of each worker: a GPU if the cluster has any, and up to one core.

    Raises ConfigError if the configuration asks for a GPU that the cluster can't provide.
    """
    wants_gpu = engine.accelerator == "gpu"
    if wants_gpu and not (cluster.gpus or cluster.grows):
        raise ConfigError("engine.accelerator is gpu, and this machine has none; leave it out")
    # On a cluster whose only node is a head without CPUs, this makes the autoscaler add a machine.
    cpus = min(1.0, cluster.cpus / (engine.workers + 1)) if cluster.cpus else 1.0
    return {"CPU": cpus} | ({"GPU": 1.0} if cluster.gpus or wants_gpu else {})


def _fit(config: TrainConfig, cluster: ClusterResources, progress: ShowMetrics) -> None:
    workers = config.engine.workers
    threads = max(1, int(cluster.cpus) // workers)
    claims = worker_claims(cluster, config.engine)
    noun = "1 worker loads" if workers == 1 else f"{workers} workers load"
    _say(f"{noun} the model and the data")
    # On the driver's node, since a node of the workers may be lost.
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    reports = Queue(actor_options={"num_cpus": 0, "label_selector": here})
    # One call for each process, with whose end Ray Train's own actors end too.
    task: Any = ray.remote(num_cpus=0, max_retries=0, max_calls=1, label_selector=here)(fit)
    errors = list[UserError]()
    with _cancelled_if_interrupted(task.remote(config, claims, threads, reports)) as fitted:
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
        ray.get(fitted)


@contextmanager
def _cancelled_if_interrupted(task: ray.ObjectRef[None]) -> Generator[ray.ObjectRef[None]]:
    """A training that was stopped must not go on in a Ray that the user has started."""
    try:
        yield task
    except (KeyboardInterrupt, SystemExit):
        ray.cancel(task, force=True)
        raise


def _reports(queue: Queue, fitted: ray.ObjectRef[None]) -> Iterator[Mapping[str, float] | str | UserError]:
    """The reports of the workers, until the training ends."""
    while not (ray.wait([fitted], timeout=0)[0] and queue.empty()):
        try:
            yield queue.get(timeout=POLL_S)
        except Empty:
            continue
