"""How many actors of which size a cluster gets: decisions over frozen data, with their reason.

Knows nothing of Ray: what the cluster has is given as numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from schemas.config import Resources

LABEL_BYTES = 2 << 30
"""Host memory of a label actor: torch, transformers and a small model take about 1 GiB."""


@dataclass(frozen=True, slots=True)
class ClusterResources:
    """What a cluster has in all."""

    cpus: float
    gpus: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Pool:
    """Actors of one kind: how many, and what each claims of the cluster."""

    workers: int
    cpus: float
    gpus: float = 0.0
    threads: int = 1


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The pools of the labelling pipeline, and why they are so."""

    decode: Pool
    label: Pool
    write: Pool
    reason: str


def plan_pools(cluster: ClusterResources, resources: Resources, num_units: int) -> PoolPlan:
    """Pools that all fit into the cluster at once: too few claimable CPUs would deadlock the pipeline.

    With GPUs, one label actor for each, and every CPU left decodes. Without, labelling takes most of the
    time: one label actor a core, as far as memory goes, beside decoders for half the cores, which rest
    when the label actors have enough to do. A unit is never split, so `num_units` bounds every pool.
    """
    cores, gpus = max(1, math.floor(cluster.cpus)), math.floor(cluster.gpus)
    fitting = max(1, cluster.memory_bytes // LABEL_BYTES)
    label = min(num_units, resources.label_workers or gpus or min(cores, fitting))
    decode = min(num_units, resources.decode_workers or max(1, cores - gpus - 1 if gpus else cores // 2))
    write = max(1, label // 4)
    claim = min(1.0, math.floor(100 * cluster.cpus / (label + decode + write)) / 100)
    threads = 1 if gpus else max(1, cores // label)
    reason = (
        f"{cores} cores, {gpus} GPUs, {cluster.memory_bytes / 2**30:.0f} GiB, {num_units} units: "
        f"{decode} to decode, {label} to label with {threads} threads each, {write} to write, "
        f"claiming {claim:g} CPUs each"
    )
    label_pool = Pool(label, claim, min(1.0, gpus / label), threads)
    return PoolPlan(Pool(decode, claim), label_pool, Pool(write, claim), reason)
