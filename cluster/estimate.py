"""Measures a labelling run on a random sample of its input, into a temporary folder.

`cluster/planning.py` derives from it what the whole run takes.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from kinescribe.actors.timing import timed
from kinescribe.cluster.label import planned_run, run_label
from kinescribe.cluster.pipeline import DEFAULT_SESSIONS, Sessions
from kinescribe.cluster.planning import (
    STAGES,
    MeasuredUnit,
    clip_sizes,
    draw_sample,
    expected_triplets,
    scaled,
)
from kinescribe.cluster.ray_session import named_address, ray_cluster
from kinescribe.cluster.resources import ClusterResources
from kinescribe.labeling.inputs import input_root
from kinescribe.labeling.manifest import COLUMNS, TIMES
from kinescribe.models.checkpoint_files import weight_bytes
from kinescribe.models.endpoint import is_endpoint
from kinescribe.schemas.clips import Clip, WorkUnit
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.estimate import Estimate
from kinescribe.schemas.outcomes import Status
from kinescribe.storage import uri
from kinescribe.storage.estimate import require_estimate
from kinescribe.storage.plan import read_plan
from kinescribe.storage.run import require_own
from kinescribe.storage.shards import UnitFooter, read_footer, unit_uri, write_unit


@dataclass(frozen=True, slots=True)
class _Measured:
    """The sample's units, the triplets of each of its clips by index, and the machine that labelled it."""

    units: list[MeasuredUnit]
    triplets: dict[int, int]
    startup_s: float
    cluster: ClusterResources


def estimate_run(
    input: str,
    config: LabelConfig,
    resources: Resources,
    num: int,
    seed: int,
    dataset: str | None,
    sessions: Sessions = DEFAULT_SESSIONS,
) -> tuple[Estimate, ClusterResources]:
    """What a run over `input` takes, measured on `num` of its clips, and the machine that labelled them.

    `dataset` is the folder of the future run. Raises what `run_label` raises before it starts, and
    ConfigError on a cluster, whose workers wouldn't find the sample's folder.
    """
    if address := named_address():
        raise ConfigError(
            f"RAY_ADDRESS={address}: a plan measures one machine, not a cluster; unset it, and plan on a "
            "machine like those that will label"
        )
    run, clips = planned_run(input, config, sessions)
    if dataset is not None:
        require_own(dataset, run)
        require_estimate(dataset)
    strata = draw_sample(clip_sizes(clips), num, seed)
    chosen = {place for stratum in strata for place in stratum.sampled}
    sample = {place: clip for place, clip in enumerate(clips) if place in chosen}
    with tempfile.TemporaryDirectory(prefix="kinescribe-") as folder:
        measured = _label_sample(folder, input, sample, config, resources, sessions)
    totals = scaled(strata, measured.units)
    estimate = Estimate(
        fingerprint=run.fingerprint,
        clips=len(clips),
        units=math.ceil(len(clips) / config.clips_per_unit),
        sampled=len(sample),
        rejected=totals["rejected"] / len(clips),
        triplets=expected_triplets(strata, measured.triplets),
        size_bytes=round(totals["size_bytes"]),
        stage_s={stage: totals[stage] for stage in STAGES},
        gpu=measured.cluster.gpus > 0 and not is_endpoint(config.dynamics),
        card_bytes=measured.cluster.card_bytes,
        model_bytes=weight_bytes(config.dynamics),
        startup_s=measured.startup_s,
    )
    return estimate, measured.cluster


def _label_sample(
    folder: str,
    input: str,
    sample: Mapping[int, Clip],
    config: LabelConfig,
    resources: Resources,
    sessions: Sessions,
) -> _Measured:
    manifest, dataset = _write_manifest(folder, list(sample.values())), f"{folder}/dataset"
    started = time.time()
    with ray_cluster() as cluster:
        config = _sample_config(config, input, len(sample), cluster)
        run_label(manifest, dataset, config, resources, sessions=sessions)
    units = list(read_plan(dataset))
    footers = [read_footer(unit_uri(dataset, unit.unit_id)) for unit in units]
    places = {clip.clip_id: place for place, clip in sample.items()}
    return _Measured(
        [_measured(dataset, unit, footer, places) for unit, footer in zip(units, footers, strict=True)],
        {places[end.clip_id]: end.num_triplets for footer in footers for end in footer.outcomes},
        max(0.0, min(map(_ready, footers)) - started),
        cluster,
    )


def _write_manifest(folder: str, clips: Sequence[Clip]) -> str:
    schema = {name: pl.Float64 if name in TIMES else pl.String for name in COLUMNS}
    rows = [(clip.uri, clip.action_class, clip.start_s, clip.end_s, clip.clip_id) for clip in clips]
    pl.DataFrame(rows, schema, orient="row").write_parquet(f"{folder}/sample.parquet")
    return f"{folder}/sample.parquet"


def _sample_config(config: LabelConfig, input: str, num: int, cluster: ClusterResources) -> LabelConfig:
    """The run's configuration, except that each label actor gets a unit, and that no reject ends the run."""
    root, actors = input_root(input), max(1, int(cluster.gpus or cluster.cpus))
    return config.model_copy(
        update={
            "roots": (*config.roots, root) if uri.is_local(root) else config.roots,
            "max_reject_rate": 1.0,
            "columns": (),
            "clips_per_unit": min(config.clips_per_unit, max(1, num // actors)),
        }
    )


def _measured(dataset: str, unit: WorkUnit, footer: UnitFooter, places: Mapping[str, int]) -> MeasuredUnit:
    """What a unit took and gave. It is written a second time, to measure writing."""
    path = Path(unit_uri(dataset, unit.unit_id))
    rows = pq.ParquetFile(path).read()
    _, write = timed("write", lambda: write_unit(f"{dataset}/again", unit, rows, footer.outcomes))
    values = {stage.stage: stage.work_s for stage in (*footer.stages, write)}
    values["size_bytes"] = path.stat().st_size
    values["rejected"] = sum(end.status is Status.REJECTED for end in footer.outcomes)
    return MeasuredUnit(tuple(places[clip.clip_id] for clip in unit.clips), values)


def _ready(footer: UnitFooter) -> float:
    """When decoding must have begun at the latest for the unit to be labelled when it was."""
    stages = {stage.stage: stage for stage in footer.stages}
    return stages["label"].started - stages["decode"].work_s
