"""The functions that `kinescribe` exports: plain Python values in, results of the engine out.

Paths may be strings or `os.PathLike`. Keyword options are keys of the job's configuration; they override
`config`. Nothing heavy is imported before a function is called.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from kinescribe.arguments import (
    StrPath,
    StrPaths,
    checked,
    configured,
    label_settings,
    listed,
    no_progress,
)
from kinescribe.preconditions import require_extras, require_file, require_folder
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.rendering import Progress

if TYPE_CHECKING:
    from kinescribe.inference.imagine import Imagination
    from kinescribe.labeling.curate import Curated
    from kinescribe.models.dynamics import DynamicsModel
    from kinescribe.models.token_vlm import TokenVLM
    from kinescribe.models.world import WorldModel
    from kinescribe.schemas.config import (
        AtLeastTwo,
        Attention,
        CurateConfig,
        Hours,
        ImagineConfig,
        IngestConfig,
        LabelConfig,
        NotNegative,
        Positive,
        Precision,
        Resources,
    )
    from kinescribe.schemas.estimate import CostPlan, Machine
    from kinescribe.schemas.training import TrainConfig
    from kinescribe.storage.audit import CheckResult, DatasetStatus


@checked
def label(
    input: StrPath,
    out: StrPath,
    config: LabelConfig | None = None,
    resources: Resources | None = None,
    *,
    retry_rejected: bool = False,
    join: bool = False,
    **options: Any,
) -> DatasetStatus:
    """Label the clips of `input`, and write the triplets to the dataset `out`. Call again to resume.

    `input` is a file, a folder, a glob, the URL of an object store, or a manifest. Options are keys of
    `LabelConfig` and of `Resources`. With `retry_rejected`, the clips that were rejected so far are labelled
    again. With `join`, the dataset is written although another run is writing it.

    >>> kinescribe.label("clips", "dataset", dynamics="runs/mine/export", keyframes={"min_interval": 10})

    Raises InputError, ConfigError, ModelError or DatasetError before anything starts; InputError if too many
    clips are rejected; StoreError if a unit cannot be written.
    """
    settings, speed = label_settings(label, config, resources, options)
    require_folder("out", os.fspath(out))
    from kinescribe.cluster.label import run_label

    return run_label(
        os.fspath(input), os.fspath(out), settings, speed, retry_rejected=retry_rejected, join=join
    )


@checked
def ingest(
    input: StrPath,
    out: StrPath,
    config: IngestConfig | None = None,
    *,
    decode_workers: Positive | None = None,
    join: bool = False,
    progress: Progress = no_progress,
    **options: Any,
) -> DatasetStatus:
    """Import triplets that already have an action into the dataset `out`. Call again to resume.

    `input` is AURORA's JSON, or a table of narrated video segments. Options are keys of `IngestConfig`. With
    `join`, the dataset is written although another run is writing it.

    >>> kinescribe.ingest("aurora/train.json", "supervised")

    Raises InputError, ConfigError, ModelError or DatasetError.
    """
    from kinescribe.schemas.config import IngestConfig

    settings = configured(ingest, IngestConfig, config, options)
    require_folder("out", os.fspath(out))
    from kinescribe.labeling.ingest import run_ingest

    return run_ingest(os.fspath(input), os.fspath(out), settings, decode_workers, progress, join)


@checked
def status(dataset: StrPath) -> DatasetStatus:
    """Count the clips of a dataset that are kept, dropped, rejected and pending.

    >>> kinescribe.status("dataset").reasons
    {'no_video': 1, 'static': 3}

    Raises DatasetError if the folder is not a dataset, or is damaged.
    """
    from kinescribe.storage import audit

    return audit.status(os.fspath(dataset))


@checked
def check(
    dataset: StrPath,
    *,
    frames: Positive | None = None,
    seed: NotNegative = 0,
    roots: StrPaths | None = None,
    progress: Progress = no_progress,
) -> CheckResult:
    """Audit a dataset: the digest of every file, and exactly one outcome for every clip.

    With `frames`, that many rows are drawn at random, and their frames are compared with the videos, which
    decord decodes anew. Only videos below `roots` are read, by default those below the working folder.
    `progress` is called with the number of rows compared and their total.

    >>> kinescribe.check("dataset", frames=50).ok
    True

    Raises DatasetError if the folder is not a dataset.
    """
    from dataclasses import replace

    from kinescribe.storage import audit
    from kinescribe.storage.dataset import Dataset
    from kinescribe.storage.row_sample import RowSample

    opened = Dataset.open(os.fspath(dataset))
    if frames is None:
        return audit.check(opened)
    from kinescribe.labeling.frame_check import check_frames

    sample = RowSample(frames, seed)
    result = audit.check(opened, sample)
    compared = check_frames(opened, sample, listed(roots) or (), progress)
    problems = [*result.problems, *compared.problems()]
    return replace(result, ok=not problems, problems=problems, frames=compared)


@checked
def curate(
    datasets: StrPaths,
    out: StrPath,
    config: CurateConfig | None = None,
    *,
    reviews: StrPaths | None = None,
    agree: StrPath | None = None,
    agree_by: str = "exact",
    ids: StrPath | None = None,
    materialize: StrPath | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Curated:
    """Select the likeliest triplets, the same number of each class, and write them to a Parquet file.

    Options are keys of `CurateConfig`, of which `top_k` is required. `reviews` are files that review pages
    exported: what raters found wrong is not chosen. `agree` is a dataset of the same clips by another model:
    what it says differently is not chosen; `agree_by` is `exact`, `rouge`, or a text encoder. `ids` is a file
    with the ids of triplets, one per line, as reports export them: no others are chosen. With
    `materialize`, the chosen triplets are also copied into a dataset of that name. `progress` is called with
    the number of units read and their total, then of units copied.

    >>> kinescribe.curate("dataset", "best.parquet", top_k=7000, min_score=-0.5)

    Raises ConfigError, InputError, DatasetError or ModelError.
    """
    from kinescribe.schemas.config import CurateConfig

    settings = configured(curate, CurateConfig, config, options)
    require_file("out", os.fspath(out))
    if materialize is not None:
        require_folder("materialize", os.fspath(materialize))
    from kinescribe.evaluation.text_metrics import agreement_with
    from kinescribe.labeling.curate import curate as write_curated
    from kinescribe.labeling.ids import read_ids
    from kinescribe.labeling.materialize import require_materialized, write_chosen
    from kinescribe.storage.dataset import Dataset

    if materialize is not None:
        require_materialized(os.fspath(materialize))
    sources = [Dataset.open(os.fspath(path)) for path in cast(Sequence[StrPath], datasets)]
    files = [os.fspath(path) for path in cast(Sequence[StrPath], listed(reviews) or ())]
    agreement = None if agree is None else agreement_with(os.fspath(agree), agree_by)
    only = None if ids is None else read_ids(os.fspath(ids))
    curated = write_curated(sources, os.fspath(out), settings, progress, files, agreement, only)
    if materialize is not None:
        write_chosen(sources, os.fspath(out), os.fspath(materialize), progress)
    return curated


@checked
def train(
    task: Literal["codec", "dynamics", "world"],
    data: StrPaths | None = None,
    out: StrPath | None = None,
    config: TrainConfig | None = None,
    **options: Any,
) -> Path:
    """Train a model on datasets, with Ray Train and DeepSpeed. Returns the folder of the exported model.

    Options are keys of `CodecTraining`, `DynamicsTraining` or `WorldTraining`. Call again to resume.

    >>> kinescribe.train("world", "dataset", "runs/world", init="embedded-world", steps=2000)

    Raises ConfigError if the `train` extra is not installed, ConfigError, ModelError or DatasetError.
    """
    require_extras("train", "train")
    from kinescribe.schemas.training import TRAININGS

    settings = configured(train, TRAININGS[task], config, {"data": listed(data), "out": out, **options})
    require_folder("out", settings.out)
    from kinescribe.cluster.train import run_train

    return run_train(settings)


@checked
def imagine(
    source: StrPath,
    actions: str | Sequence[str] | None = None,
    out: StrPath | None = None,
    config: ImagineConfig | None = None,
    **options: Any,
) -> Imagination:
    """Imagine the result of an action, or of several in turn. The dynamics model chooses the best sample.

    `source` is the path or URL of an image. With `out`, the best images and a contact sheet are written to
    that folder. Options are keys of `ImagineConfig`.

    >>> kinescribe.imagine("scene.png", "move the red ball left", "imagined", num_samples=4)

    Raises InputError, ConfigError or ModelError.
    """
    from kinescribe.schemas.config import ImagineConfig

    defaults = {} if config else {"world": "embedded-world"}
    settings = configured(imagine, ImagineConfig, config, {**defaults, "actions": listed(actions), **options})
    from kinescribe.inference.imagine import imagine as imagine_steps

    return imagine_steps(os.fspath(source), settings, None if out is None else Path(out))


@checked
def report(
    dataset: StrPath,
    out: StrPath,
    *,
    compare: StrPath | None = None,
    sample: Positive = 500,
    dropped_frames: bool = False,
    roots: StrPaths | None = None,
) -> None:
    """Write one self-contained HTML page about a dataset, or about two with `compare`.

    `sample` is the maximum number of pairs on the page. With `dropped_frames`, frames of a few dropped and
    rejected clips are decoded and shown; only videos below `roots`, by default the working folder, are read.

    >>> kinescribe.report("dataset", "report.html")

    Raises ConfigError or DatasetError.
    """
    require_file("out", os.fspath(out))
    if compare is not None:
        from kinescribe.reports.comparison import write_comparison

        write_comparison(os.fspath(dataset), os.fspath(compare), os.fspath(out), sample)
    else:
        from kinescribe.reports.report import write_report

        decode_below = (listed(roots) or ()) if dropped_frames else None
        write_report(os.fspath(dataset), os.fspath(out), sample, decode_below=decode_below)


@checked
def export(
    dataset: StrPath,
    out: StrPath,
    layout: Literal["webdataset", "hub"] = "webdataset",
    *,
    select: StrPath | None = None,
    progress: Progress = no_progress,
) -> None:
    """Copy a dataset into the empty folder `out`, in a layout that other tools read.

    `select` is a selection of `curate`; only its triplets are copied.

    >>> kinescribe.export("dataset", "tars", "webdataset")

    Raises ConfigError or DatasetError.
    """
    require_folder("out", os.fspath(out))
    from kinescribe.storage.export import export_hub, export_webdataset

    write = {"webdataset": export_webdataset, "hub": export_hub}[layout]
    chosen = None if select is None else os.fspath(select)
    write(os.fspath(dataset), os.fspath(out), chosen, progress)


@checked
def plan(
    input: StrPath,
    config: LabelConfig | None = None,
    resources: Resources | None = None,
    *,
    sample: AtLeastTwo = 64,
    dataset: StrPath | None = None,
    machines: Sequence[Machine] = (),
    deadline_h: Hours | None = None,
    seed: NotNegative = 0,
    **options: Any,
) -> CostPlan:
    """Label a random sample of the clips, and estimate triplets, hours and cost of labelling all of them.

    `machines` are kinds of machines with their prices, of which the fewest are chosen that keep the deadline.
    With `dataset`, the estimate is kept there, and `kinescribe status` compares it with the run. Options are
    keys of `LabelConfig` and of `Resources`.

    >>> kinescribe.plan("clips", sample=32).estimate.triplets.expected

    Raises InputError, ConfigError, ModelError or DatasetError.
    """
    settings, speed = label_settings(plan, config, resources, options)
    if deadline_h is not None and not machines:
        raise ConfigError(
            f"a deadline of {deadline_h:g} hours needs machines to choose from; give the available machines"
        )
    from kinescribe.cluster.estimate import estimate_run
    from kinescribe.cluster.planning import plan_run
    from kinescribe.storage.estimate import write_estimate

    target = None if dataset is None else os.fspath(dataset)
    estimate, here = estimate_run(os.fspath(input), settings, speed, sample, seed, target)
    if target is not None:
        write_estimate(target, estimate)
    return plan_run(estimate, here, machines, deadline_h)


@overload
def load_model(
    name: StrPath = "embedded",
    role: Literal["unified"] = "unified",
    precision: Precision = "auto",
    attention: Attention = "auto",
) -> TokenVLM: ...
@overload
def load_model(
    name: StrPath,
    role: Literal["describer", "dynamics"],
    precision: Precision = "auto",
    attention: Attention = "auto",
) -> DynamicsModel[Any]: ...
@overload
def load_model(
    name: StrPath, role: Literal["world"], precision: Precision = "auto", attention: Attention = "auto"
) -> WorldModel: ...
@checked
def load_model(
    name: StrPath = "embedded",
    role: Literal["unified", "describer", "dynamics", "world"] = "unified",
    precision: Precision = "auto",
    attention: Attention = "auto",
) -> Any:
    """Load a model: 'embedded', 'embedded-world', a folder, ORG/NAME@COMMIT of a hub, or MODEL@URL.

    A `describer` describes frame pairs, a `dynamics` model also scores given actions, a `world` model draws
    targets, and a `unified` model does all three. It is placed on the GPU if there is one.

    >>> kinescribe.load_model("Qwen2.5-VL-7B-Instruct", "dynamics").describe(pairs)

    Raises ModelError if there is no such model, or if it doesn't have this role.
    """
    from kinescribe.models.registry import load

    return load(os.fspath(name), role, precision, attention)
