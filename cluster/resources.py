"""How many actors of which size a cluster gets: decisions over frozen data, with their reason.

Knows nothing of Ray: what the cluster has is given as numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kinescribe.models.checkpoint_files import LOADED
from kinescribe.schemas.config import Resources
from kinescribe.schemas.errors import ConfigError

GIB = 1 << 30
LABEL_BYTES = 2 * GIB
"""Host memory of a label actor beside its model's weights: torch and transformers take about 1 GiB."""
CUDA_BYTES = 2 * GIB
"""What a process takes of a card beside its weights and what it computes with them."""
SHARED = 3.0
"""Bytes of a shared card for each byte of weights: what a batch takes is larger than they are."""
SMALLEST_SHARE = 0.25
CORES = 4
"""For each label actor that shares a card: its own, and those that decode for it."""
BESIDE = 0.5
"""CPUs of a decoder or writer where the cores label: it rests when the label actors have enough to do."""
CARDS = {
    name: gib * GIB
    for gib, names in {
        12: "K80",
        16: "T4 V100 P100",
        24: "L4 A10G",
        40: "A100 A100-40G",
        48: "L40S",
        80: "A100-80G H100",
        141: "H200",
        180: "B200",
    }.items()
    for name in names.split()
}
"""Memory by Ray's name for the card; where one name is of several sizes, the smallest."""
UNKNOWN_CARD = 16 * GIB


@dataclass(frozen=True, slots=True)
class ClusterResources:
    """What a cluster has now."""

    cpus: float
    gpus: float
    memory_bytes: int
    card_bytes: int = UNKNOWN_CARD
    """Memory of its smallest GPU."""
    machine_gpus: float = math.inf
    """The most GPUs that one of its machines has."""
    grows: bool = False
    """Whether machines may come and go while a job runs."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Actors of one kind: how many, and what each claims of the cluster."""

    workers: int
    """At the start, when there is room for all pools at once."""
    least: int
    most: int
    cpus: float = 0.0
    gpus: float = 0.0
    threads: int = 1

    def __str__(self) -> str:
        bounds = "" if self.least == self.most else f" (from {self.least} to {self.most})"
        return f"{self.workers}{bounds}"


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The pools of the labelling pipeline, and why they are so."""

    decode: Pool
    label: Pool
    write: Pool
    reason: str

    @property
    def loading(self) -> str:
        """What a run waits for at first: `1 decoder and 2 models are loading`."""
        decoders, models = (
            f"{pool.workers} {name}{'s' * (pool.workers > 1)}"
            for pool, name in ((self.decode, "decoder"), (self.label, "model"))
        )
        return f"{decoders} and {models} are loading"


def plan_pools(
    cluster: ClusterResources, resources: Resources, num_units: int, model_bytes: int = 0
) -> PoolPlan:
    """Pools that all fit into the cluster at once: too few claimable CPUs would deadlock the pipeline.

    With GPUs, the label actors fill them, and every CPU left decodes; they claim no CPU, so that they never
    wait until decoders make room. Without, labelling takes most of the time: one label actor a core, as far
    as memory goes, beside decoders for half the cores.

    Where the cluster grows, this is the start: Ray Data adds actors where there are work and room for them,
    and takes away those that rest, but no label actor of the start. A unit is never split, so `num_units`
    bounds every pool. Raises ConfigError where a label actor should have more GPUs than there are.
    """
    cores = max(1, math.floor(cluster.cpus))
    gpus = _gpus_each(cluster, resources.label_gpus, model_bytes)
    room = _label_room(cluster, gpus, model_bytes)
    label = _pool(cluster, num_units, room, resources.label_workers, stays=True)
    if gpus <= 1 and resources.label_gpus is None and cluster.gpus:
        gpus = 1 / math.ceil(label.workers / cluster.gpus)
    write = _pool(cluster, num_units, max(1, label.workers // 4))
    decode_room = cores - label.workers - write.workers if gpus else cores // 2
    decode = _pool(cluster, num_units, max(1, decode_room), resources.decode_workers)

    beside, own = (1.0, 0.0) if gpus else (BESIDE, max(1.0, cores / room))
    wanted = beside * (decode.workers + write.workers) + own * label.workers
    fitting = min(1.0, cluster.cpus / wanted) if cluster.cpus else 1.0
    threads = 1 if gpus else max(1, cores // label.workers)
    decode, write = (replace(pool, cpus=_claim(beside * fitting)) for pool in (decode, write))
    label = replace(label, cpus=_claim(own * fitting), gpus=_claim(gpus), threads=threads)
    return PoolPlan(decode, label, write, _reason(cluster, num_units, model_bytes, decode, label, write))


def lacking(machine: ClusterResources, model_bytes: int, proven: ClusterResources) -> str | None:
    """Of which memory one machine has too little for a label actor, None where it holds one.

    A machine that is no smaller than the `proven` one, which held it, does too: a card's size may be a guess.
    """
    host_bytes = LABEL_BYTES + (0 if machine.gpus else model_bytes)
    if machine.memory_bytes < min(host_bytes, proven.memory_bytes):
        return f"labelling needs {_gib(host_bytes)} of memory, and it has {_gib(machine.memory_bytes)}"
    needed, cards_bytes = _bytes_on_cards(model_bytes), machine.gpus * machine.card_bytes
    if machine.gpus < proven.machine_gpus and machine.gpus and cards_bytes < needed:
        return f"the model needs {_gib(needed)} of GPU memory, and it has {_gib(cards_bytes)}"
    return None


def card_bytes(names: Iterable[str]) -> int:
    """Memory of the smallest of these cards."""
    return min((CARDS.get(name, UNKNOWN_CARD) for name in names), default=UNKNOWN_CARD)


def _pool(
    cluster: ClusterResources, num_units: int, room: int, asked: int | None = None, stays: bool = False
) -> Pool:
    """As many as there is room for, or as were asked for, which on a cluster that grows is the most."""
    if not cluster.grows:
        workers = min(num_units, asked or room)
        return Pool(workers, least=workers, most=workers)
    most = min(num_units, asked or num_units)
    workers = min(room, most)
    return Pool(workers, least=workers if stays else 1, most=most)


def _gpus_each(cluster: ClusterResources, asked: float | None, model_bytes: int) -> float:
    """GPUs that a label actor claims, 0 where there are none.

    A share of a card where several models fit into it and cores enough are there for each, and the next power
    of two of cards where one is too small for the weights, as far as a machine has so many.
    """
    if asked is not None:
        there = min(cluster.machine_gpus, cluster.gpus)
        if asked > there and not cluster.grows:
            raise ConfigError(
                f"label_gpus must be at most {there:g}, which is what a machine has here, got {asked:g}; "
                "leave it out, and the model's size decides"
            )
        return asked
    if not cluster.gpus:
        return 0.0
    gpus = SMALLEST_SHARE
    while gpus < 1 and (
        gpus * cluster.card_bytes < SHARED * model_bytes + CUDA_BYTES
        or gpus * cluster.cpus < CORES * cluster.gpus
    ):
        gpus *= 2
    while gpus * cluster.card_bytes < _bytes_on_cards(model_bytes):
        gpus *= 2
    return min(gpus, cluster.machine_gpus, cluster.gpus)


def _bytes_on_cards(model_bytes: int) -> float:
    """What a label actor takes of its cards at the least."""
    return LOADED * model_bytes + CUDA_BYTES


def _label_room(cluster: ClusterResources, gpus: float, model_bytes: int) -> int:
    """How many label actors the cluster has room for, one at least."""
    if gpus:
        return max(1, math.floor(cluster.gpus / gpus))
    return max(1, min(math.floor(cluster.cpus), cluster.memory_bytes // (LABEL_BYTES + model_bytes)))


def _claim(amount: float) -> float:
    """Rounded down to the four digits that Ray keeps."""
    return math.floor(1e4 * amount) / 1e4


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / GIB:,.1f} GiB"


def _reason(
    cluster: ClusterResources, num_units: int, model_bytes: int, decode: Pool, label: Pool, write: Pool
) -> str:
    each = f"{label.gpus:g} GPUs" if label.gpus else f"{label.threads} threads"
    return (
        f"{cluster.cpus:g} cores, {cluster.gpus:g} GPUs, {cluster.memory_bytes / GIB:.0f} GiB, "
        f"{num_units} units, {model_bytes / 1e6:,.0f} MB of weights: "
        f"{decode} to decode, {label} to label with {each} each, "
        f"{write} to write, claiming {decode.cpus:g}, {label.cpus:g} and {write.cpus:g} CPUs each"
    )
