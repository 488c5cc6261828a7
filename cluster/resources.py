"""Decides how many actors of which size run on a cluster, and says why.

Functions of frozen data. Knows nothing of Ray.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kinescribe.models.checkpoint_files import LOADED
from kinescribe.schemas.config import Resources
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.rendering import counted

GIB = 1 << 30
LABEL_BYTES = 2 * GIB
"""Host memory of a label actor besides its model's weights; torch and transformers take about 1 GiB."""
ASKING_BYTES = GIB
"""Host memory of a label actor that only asks a server and computes codes."""
ASKING_CORES = 4
"""Cores for each of them: its own, and those that decode for it."""
MOST_UNITS_AT_ONCE = 16
CUDA_BYTES = 2 * GIB
"""GPU memory of a process besides its weights and activations."""
SHARED = 3.0
"""Bytes of a shared GPU for each byte of weights; the activations of a batch take more than the weights."""
SMALLEST_SHARE = 0.25
CORES = 4
"""Cores for each label actor that shares a GPU: its own, and those that decode for it."""
BESIDE = 0.5
"""CPUs of a decoder or writer on a cluster without GPUs: it rests while the label actors are busy."""
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
"""GPU memory by Ray's name of the card; if a name has several sizes, the smallest."""
UNKNOWN_CARD = 16 * GIB


@dataclass(frozen=True, slots=True)
class ClusterResources:
    """The current resources of a cluster."""

    cpus: float
    gpus: float
    memory_bytes: int
    card_bytes: int = UNKNOWN_CARD
    """Memory of the smallest GPU."""
    machine_gpus: float = math.inf
    """The most GPUs of one machine."""
    grows: bool = False
    """Whether machines may join and leave while a job runs."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Actors of one kind: their number, and the resources that each claims."""

    workers: int
    """At the start, when all pools fit at once."""
    least: int
    most: int
    cpus: float = 0.0
    gpus: float = 0.0
    threads: int = 1
    units_at_once: int = 1
    """On each actor; more where it waits for a server."""

    def __str__(self) -> str:
        bounds = "" if self.least == self.most else f" (from {self.least} to {self.most})"
        return f"{self.workers}{bounds}"


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The pools of the labelling pipeline, and the reason for their sizes."""

    decode: Pool
    label: Pool
    write: Pool
    reason: str

    @property
    def loading(self) -> str:
        """What the run waits for at first: `1 decoder and 2 models are loading`."""
        decoders, models = counted(self.decode.workers, "decoder"), counted(self.label.workers, "model")
        return f"{decoders} and {models} are loading"


def plan_pools(
    cluster: ClusterResources,
    resources: Resources,
    num_units: int,
    model_bytes: int = 0,
    units_asked_at_once: int = 0,
) -> PoolPlan:
    """Pools that fit into the cluster together; otherwise the pipeline could deadlock for lack of CPUs.

    On GPUs, label actors fill the GPUs and all other CPUs decode. Label actors then claim no CPU, so that
    they never wait for decoders. Without GPUs, labelling takes most of the time: one label actor per core, as
    far as memory allows, and decoders for half of the cores.

    `units_asked_at_once` is 0 unless label actors only ask a server: then they claim no GPU, and each has so
    many units under way; see `units_asked_at_once`.

    On a cluster that grows, these are the initial sizes: Ray Data adds actors while there is work and room,
    and removes idle ones, except the first label actors. A unit is never split, so no pool is larger than
    `num_units`. Raises ConfigError if `label_gpus` is more than a machine has.
    """
    cores = max(1, math.floor(cluster.cpus))
    asks = units_asked_at_once > 0
    gpus = 0.0 if asks else _gpus_each(cluster, resources.label_gpus, model_bytes)
    room = _asking_room(cluster) if asks else _label_room(cluster, gpus, model_bytes)
    label = _pool(cluster, num_units, room, resources.label_workers, stays=True)
    if gpus and gpus <= 1 and resources.label_gpus is None:
        gpus = 1 / math.ceil(label.workers / cluster.gpus)
    write = _pool(cluster, num_units, max(1, label.workers // 4))
    decode_room = cores - label.workers - write.workers if gpus or asks else cores // 2
    decode = _pool(cluster, num_units, max(1, decode_room), resources.decode_workers)

    if asks:
        beside, own = 1.0, 1.0
    else:
        beside, own = (1.0, 0.0) if gpus else (BESIDE, max(1.0, cores / room))
    wanted = beside * (decode.workers + write.workers) + own * label.workers
    fitting = min(1.0, cluster.cpus / wanted) if cluster.cpus else 1.0
    threads = 1 if gpus or asks else max(1, cores // label.workers)
    decode, write = (replace(pool, cpus=_claim(beside * fitting)) for pool in (decode, write))
    label = replace(
        label,
        cpus=_claim(own * fitting),
        gpus=_claim(gpus),
        threads=threads,
        units_at_once=max(1, units_asked_at_once),
    )
    return PoolPlan(decode, label, write, _reason(cluster, num_units, model_bytes, decode, label, write))


def units_asked_at_once(concurrency: int, clips_per_unit: int) -> int:
    """How many units keep `concurrency` requests under way, also while some of them wait for their last."""
    return min(MOST_UNITS_AT_ONCE, 1 + math.ceil(concurrency / clips_per_unit))


def lacking(machine: ClusterResources, model_bytes: int, proven: ClusterResources) -> str | None:
    """Which memory of a machine is too small for a label actor, or None if the actor fits.

    It also fits a machine at least as large as the `proven` one, which held it: the size of a GPU may be a
    guess.
    """
    host_bytes = LABEL_BYTES + (0 if machine.gpus else model_bytes)
    if machine.memory_bytes < min(host_bytes, proven.memory_bytes):
        return f"labelling needs {_gib(host_bytes)} of memory, and it has {_gib(machine.memory_bytes)}"
    needed, cards_bytes = _bytes_on_cards(model_bytes), machine.gpus * machine.card_bytes
    if machine.gpus < proven.machine_gpus and machine.gpus and cards_bytes < needed:
        return f"the model needs {_gib(needed)} of GPU memory, and it has {_gib(cards_bytes)}"
    return None


def card_bytes(names: Iterable[str]) -> int:
    """The memory of the smallest of these GPUs."""
    return min((CARDS.get(name, UNKNOWN_CARD) for name in names), default=UNKNOWN_CARD)


def _pool(
    cluster: ClusterResources, num_units: int, room: int, asked: int | None = None, stays: bool = False
) -> Pool:
    """As many actors as have room or were asked for; on a cluster that grows, the latter is the maximum."""
    if not cluster.grows:
        workers = min(num_units, asked or room)
        return Pool(workers, least=workers, most=workers)
    most = min(num_units, asked or num_units)
    workers = min(room, most)
    return Pool(workers, least=workers if stays else 1, most=most)


def _gpus_each(cluster: ClusterResources, asked: float | None, model_bytes: int) -> float:
    """The GPUs that a label actor claims, 0 if there are none.

    It is a share of a GPU if several models fit into one and there are enough cores for each; if one GPU is
    too small for the weights, the next power of two, up to the GPUs of a machine.
    """
    if asked is not None:
        available = min(cluster.machine_gpus, cluster.gpus)
        if asked > available and not cluster.grows:
            raise ConfigError(
                f"label_gpus must be at most {available:g}, which is what a machine has here, got {asked:g}; "
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
    """The least GPU memory of a label actor."""
    return LOADED * model_bytes + CUDA_BYTES


def _label_room(cluster: ClusterResources, gpus: float, model_bytes: int) -> int:
    """For how many label actors the cluster has room, at least one."""
    if gpus:
        return max(1, math.floor(cluster.gpus / gpus))
    return max(1, min(math.floor(cluster.cpus), cluster.memory_bytes // (LABEL_BYTES + model_bytes)))


def _asking_room(cluster: ClusterResources) -> int:
    """The same for label actors that only ask a server."""
    return max(1, min(math.floor(cluster.cpus) // ASKING_CORES, cluster.memory_bytes // ASKING_BYTES))


def _claim(amount: float) -> float:
    """The amount, rounded down to the four digits that Ray keeps."""
    return math.floor(1e4 * amount) / 1e4


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / GIB:,.1f} GiB"


def _reason(
    cluster: ClusterResources, num_units: int, model_bytes: int, decode: Pool, label: Pool, write: Pool
) -> str:
    each = _amount(label.gpus, "GPU") if label.gpus else _amount(label.threads, "thread")
    return (
        f"{_amount(cluster.cpus, 'core')}, {_amount(cluster.gpus, 'GPU')}, "
        f"{cluster.memory_bytes / GIB:.0f} GiB, {counted(num_units, 'unit')}, {model_bytes / 1e6:,.0f} MB of "
        f"weights; decoders: {decode}, models: {label} with {each} each, writers: {write}"
    )


def _amount(amount: float, noun: str) -> str:
    return counted(int(amount), noun) if amount == int(amount) else f"{amount:g} {noun}s"
