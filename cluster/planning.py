"""Estimates what a labelling run takes from measurements of a sample, and which machines can do it in time.

Functions of frozen data. Knows neither Ray nor files, nor how the sample was labelled.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kinescribe.cluster.resources import ClusterResources, lacking, plan_pools
from kinescribe.schemas.clips import Clip
from kinescribe.schemas.config import Resources
from kinescribe.schemas.estimate import CostPlan, Estimate, Interval, Machine, Offer

STAGES = ("decode", "label", "write")
CONFIDENCE = 0.95
MOST_STRATA = 10
CLIPS_PER_STRATUM = 5
"""The fewest sampled clips of a stratum, from which its spread is estimated."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Clips of about the same size: their number in the input, and the indices of those in the sample."""

    num_clips: int
    sampled: tuple[int, ...]

    @property
    def weight(self) -> float:
        """How many clips of the input a sampled clip stands for."""
        return self.num_clips / len(self.sampled)


@dataclass(frozen=True, slots=True)
class MeasuredUnit:
    """A unit of the sample: the indices of its clips, and what it took and gave, by name."""

    clips: tuple[int, ...]
    values: Mapping[str, float]


def clip_sizes(clips: Iterable[Clip]) -> list[float]:
    """The bytes of each clip, 0 if unknown. A window has an equal share of its file's bytes."""
    windows = Counter(clip.uri for clip in clips if clip.start_s is not None)
    return [(clip.size_bytes or 0) / (windows[clip.uri] or 1) for clip in clips]


def draw_sample(sizes: Sequence[float], num: int, seed: int) -> list[Stratum]:
    """`num` random clips, the same share of each size."""
    num = min(num, len(sizes))
    num_strata = max(1, min(MOST_STRATA, num // CLIPS_PER_STRATUM))
    random = np.random.default_rng(seed)
    by_size = np.array_split(np.argsort(sizes, kind="stable"), num_strata)
    counts = [len(part) for part in np.array_split(np.arange(num), num_strata)]
    return [
        Stratum(len(places), tuple(sorted(random.choice(places, count, replace=False).tolist())))
        for places, count in zip(by_size, counts, strict=True)
    ]


def expected_triplets(strata: Sequence[Stratum], triplets: Mapping[int, int]) -> Interval:
    """The triplets of the whole input: Student's interval of a stratified sample.

    If all sampled clips of a stratum gave the same number, its variance is that of one more triplet in one of
    them.
    """
    from scipy.stats import t  # its import takes a second

    expected = variance = 0.0
    for stratum in strata:
        counts = [triplets[place] for place in stratum.sampled]
        expected += stratum.weight * sum(counts)
        if len(counts) < stratum.num_clips:
            unseen = 1 - len(counts) / stratum.num_clips
            per_clip = max(statistics.variance(counts), 1 / len(counts))
            variance += unseen * stratum.num_clips**2 * per_clip / len(counts)
    freedom = max(1, len(triplets) - len(strata))
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    # The input has at least the triplets of the sample.
    low = max(sum(triplets.values()), expected - half)
    return Interval(round(expected), round(low), round(expected + half))


def scaled(strata: Sequence[Stratum], units: Sequence[MeasuredUnit]) -> dict[str, float]:
    """The values of all units, scaled to the whole input by the weights of their clips."""
    weights = {place: stratum.weight for stratum in strata for place in stratum.sampled}
    totals: defaultdict[str, float] = defaultdict(float)
    for unit in units:
        weight = statistics.mean(weights[place] for place in unit.clips)
        for name, value in unit.values.items():
            totals[name] += weight * value
    return dict(totals)


def working_time(estimate: Estimate, cluster: ClusterResources) -> tuple[float, str]:
    """Seconds from the start of the first unit to the end of the last, and the stage that is the bottleneck.

    The slowest stage takes as long as its workers need for all units, and no less than the cores need for all
    work. The other stages add the time of one unit, before the first or after the last.
    """
    pools = plan_pools(cluster, Resources(), estimate.units, estimate.model_bytes)
    workers = dict(zip(STAGES, (pools.decode, pools.label, pools.write), strict=True))
    # An actor with several cores, or a share of a GPU, does that much of its work at once.
    unit_s = {
        stage: estimate.stage_s[stage] / estimate.units / (pool.gpus or pool.threads)
        for stage, pool in workers.items()
    }
    stage_s = {
        stage: math.ceil(estimate.units / pool.workers) * unit_s[stage] for stage, pool in workers.items()
    }
    slowest = max(stage_s, key=lambda stage: stage_s[stage])
    longest_s, around_s = stage_s[slowest], sum(unit_s.values()) - unit_s[slowest]
    on_cores = {
        stage: seconds for stage, seconds in estimate.stage_s.items() if stage != "label" or not estimate.gpu
    }
    if (cores_s := sum(on_cores.values()) / cluster.cpus) > longest_s:
        longest_s, slowest = cores_s, max(on_cores, key=lambda stage: on_cores[stage])
    return longest_s + around_s, slowest


def plan_run(
    estimate: Estimate, here: ClusterResources, machines: Sequence[Machine], deadline_h: float | None
) -> CostPlan:
    """The time on this machine, and for each kind of machine the fewest that keep the deadline, or one."""
    working_s, bottleneck = working_time(estimate, here)
    offers: list[Offer] = []
    left_out: dict[str, str] = {}
    for machine in machines:
        for spot, name in machine.offered_as.items():
            offer = _offer(estimate, here, machine, spot, deadline_h)
            if isinstance(offer, Offer):
                offers.append(offer)
            else:
                left_out[name] = offer
    return CostPlan(estimate, (estimate.startup_s + working_s) / 3600, bottleneck, tuple(offers), left_out)


def _offer(
    estimate: Estimate, here: ClusterResources, machine: Machine, spot: bool, deadline_h: float | None
) -> Offer | str:
    """An offer, or the reason why there is none."""
    if estimate.gpu != bool(machine.gpus):
        return f"the sample was labelled {'on' if estimate.gpu else 'without'} a GPU; plan on such a machine"
    if lack := lacking(resources_of(estimate, machine, 1), estimate.model_bytes, here):
        return lack
    rate = machine.interruptions_per_hour or 0.0 if spot else 0.0
    if rate * lost_hours(estimate, machine) >= 1:
        return "it is interrupted more often than it finishes a unit"

    count = 1 if deadline_h is None else fewest_machines(estimate, machine, rate, deadline_h)
    if count is None:
        all_h = machine_hours(estimate, machine, estimate.units, rate)
        return f"even the largest number takes {all_h:.2g} hours"
    hours = machine_hours(estimate, machine, count, rate)
    price = machine.spot_price_per_hour if spot else machine.price_per_hour
    assert price is not None
    _, bottleneck = working_time(estimate, resources_of(estimate, machine, count))
    return Offer(machine.name, spot, count, hours, count * hours * price, bottleneck)


def fewest_machines(
    estimate: Estimate, machine: Machine, interruptions_per_hour: float, deadline_h: float
) -> int | None:
    """The smallest number that keeps the deadline, or None.

    One more machine may cost time, because its cores may go to other pools. So every number is tried, from
    the first that could keep the deadline.
    """

    def at_least(count: int) -> float:
        seconds = _least_working_s(estimate, machine, count)
        return _hours(estimate, machine, seconds, interruptions_per_hour)

    # Each machine beyond the number of units would have nothing to do.
    counts = range(1, estimate.units + 1)
    first = bisect_left(counts, True, key=lambda count: at_least(count) <= deadline_h)
    keeping = (
        count
        for count in counts[first:]
        if machine_hours(estimate, machine, count, interruptions_per_hour) <= deadline_h
    )
    return next(keeping, None)


def machine_hours(estimate: Estimate, machine: Machine, count: int, interruptions_per_hour: float) -> float:
    """How long `count` machines run: start-up, work, and work that interruptions cost."""
    working_s, _ = working_time(estimate, resources_of(estimate, machine, count))
    return _hours(estimate, machine, working_s, interruptions_per_hour)


def _hours(estimate: Estimate, machine: Machine, working_s: float, interruptions_per_hour: float) -> float:
    """With `lost` hours per interruption, the share 1 - rate x lost of a machine's time is useful."""
    useful = 1 - interruptions_per_hour * lost_hours(estimate, machine)
    return startup_hours(estimate, machine) + working_s / 3600 / useful


def _least_working_s(estimate: Estimate, machine: Machine, count: int) -> float:
    """A lower bound of `working_time` that falls with the count: all cores or all GPUs always work."""
    label_s, others_s = estimate.stage_s["label"], estimate.stage_s["decode"] + estimate.stage_s["write"]
    cores_s, cards_s = (others_s, label_s) if estimate.gpu else (others_s + label_s, 0.0)
    cards_s /= machine.gpus or 1
    shared_s = max(cores_s / (count * machine.cpus), cards_s / count)
    # One unit: a decoder and a writer have one core each, a label actor at most the GPUs of one machine.
    unit_s = (others_s + cards_s) / estimate.units
    return (1 - 1e-9) * max(shared_s, unit_s)  # working_time rounds differently


def lost_hours(estimate: Estimate, machine: Machine) -> float:
    """The most that an interruption costs a machine: the current unit of each worker, and a new start."""
    return startup_hours(estimate, machine) + sum(estimate.stage_s.values()) / estimate.units / 3600


def startup_hours(estimate: Estimate, machine: Machine) -> float:
    """Hours from the request until the models are loaded."""
    return machine.boot_minutes / 60 + estimate.startup_s / 3600


def resources_of(estimate: Estimate, machine: Machine, count: int) -> ClusterResources:
    """The resources of `count` machines, with GPUs like the one that labelled the sample."""
    return ClusterResources(
        cpus=count * machine.cpus,
        gpus=count * machine.gpus,
        memory_bytes=int(count * machine.memory_gib * 2**30),
        card_bytes=estimate.card_bytes,
        machine_gpus=machine.gpus,
    )
