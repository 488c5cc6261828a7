"""Says for which machines a run waits while nothing comes of it: Ray itself waits for ever without a word.

Knows nothing of what the actors do.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import ray
from ray.autoscaler.v2.schema import ClusterStatus
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.exceptions import RayError

FIRST_S, MOST_S = 30.0, 600.0
"""How long nothing comes until it is said, and the longest until it is said again."""

Amounts = Mapping[str, float]
"""Of resources, by Ray's names for them."""


@contextmanager
def waiting_told(tell: Callable[[str], object], first_s: float = FIRST_S) -> Iterator[Callable[[], None]]:
    """Tell what a run waits for; call what is yielded whenever something comes of the run."""
    came, over, address = threading.Event(), threading.Event(), ray.get_runtime_context().gcs_address

    def watch() -> None:
        since, pause_s = time.monotonic(), first_s
        while not over.wait(pause_s):
            if came.is_set():
                came.clear()
                since, pause_s = time.monotonic(), first_s
            elif (text := _waits_for(address)) and not over.is_set():
                tell(f"nothing came for {time.monotonic() - since:.0f} s: {text}")
                pause_s = min(2 * pause_s, MOST_S)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield came.set
    finally:
        over.set()


def waiting_text(demands: Sequence[tuple[Amounts, int]], machines: Sequence[Amounts]) -> str | None:
    """Which claims wait on the cluster, and whether a machine could meet them; None where none waits.

    `demands` are amounts that are claimed at once, each with how often; `machines` is all that each has, in
    use or not.
    """
    if not demands:
        return None
    hopeless = [demand for demand in demands if not any(_holds(machine, demand[0]) for machine in machines)]
    claims = ", ".join(f"{count} × ({_named(amounts)})" for amounts, count in hopeless or demands)
    if hopeless:
        return (
            f"{claims} is waited for on the cluster, and no machine of it has so much; `ray status` on "
            "the head says whether its autoscaler adds one; else start one, or stop this and ask for less"
        )
    return (
        f"{claims} is waited for on the cluster, whose machines have too little free; `ray status` on "
        "the head says whether its autoscaler adds one, and the dashboard what they are at"
    )


def _waits_for(address: str) -> str | None:
    try:
        status = get_cluster_status(address)
    except (RayError, RuntimeError):  # the head is away; whoever works with it says so
        return None
    machines = [node.total_resources() for node in (*status.active_nodes, *status.idle_nodes)]
    return waiting_text(_demands(status), machines)


def _demands(status: ClusterStatus) -> list[tuple[Amounts, int]]:
    asked = status.resource_demands
    counts = Counter[tuple[tuple[str, float], ...]]()
    for demand in (*asked.ray_task_actor_demand, *asked.placement_group_demand):
        for claim in demand.bundles_by_count:
            counts[tuple(sorted(claim.bundle.items()))] += claim.count
    return [(dict(claim), count) for claim, count in counts.items()]


def _holds(machine: Amounts, amounts: Amounts) -> bool:
    return all(machine.get(name, 0.0) >= amount for name, amount in amounts.items())


def _named(amounts: Amounts) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(amounts.items()))
