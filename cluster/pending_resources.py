"""Reports which resources a run waits for while it makes no progress: Ray itself waits in silence.

Knows nothing of what the actors do.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

import ray
from ray.autoscaler.v2.schema import ClusterStatus
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.exceptions import RayError

FIRST_S, MOST_S = 30.0, 600.0
"""Until the first report without progress, and the longest time between two reports."""

Amounts = Mapping[str, float]
"""Amounts of resources by Ray's names."""


@contextmanager
def report_pending(note: Callable[[str], object], first_s: float = FIRST_S) -> Generator[Callable[[], None]]:
    """Pass the resources that a run waits for to `note`; call the yielded function at each progress."""
    progressed, is_over = threading.Event(), threading.Event()
    address = ray.get_runtime_context().gcs_address

    def watch() -> None:
        since, pause_s = time.monotonic(), first_s
        while not is_over.wait(pause_s):
            if progressed.is_set():
                progressed.clear()
                since, pause_s = time.monotonic(), first_s
            elif (text := _pending_text(address)) and not is_over.is_set():
                note(f"no progress for {time.monotonic() - since:.0f} s: {text}")
                pause_s = min(2 * pause_s, MOST_S)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield progressed.set
    finally:
        is_over.set()


def pending_text(demands: Sequence[tuple[Amounts, int]], machines: Sequence[Amounts]) -> str | None:
    """Which claims are pending on the cluster, and whether any machine could meet them; None if none is.

    `demands` are amounts that are claimed together, each with a count; `machines` are the total amounts of
    each machine, in use or free.
    """
    if not demands:
        return None
    impossible = [demand for demand in demands if not any(_holds(machine, demand[0]) for machine in machines)]
    claims = ", ".join(f"{count} × ({_amounts_text(amounts)})" for amounts, count in impossible or demands)
    if impossible:
        return (
            f"the run waits for {claims}, and no machine of the cluster has that much; `ray status` on the "
            "head says whether its autoscaler adds one; else start one, or stop this run and ask for less"
        )
    return (
        f"the run waits for {claims}, and the cluster's machines have too little free; `ray status` on the "
        "head says whether its autoscaler adds one, and the dashboard what the machines do"
    )


def _pending_text(address: str) -> str | None:
    try:
        status = get_cluster_status(address)
    except (RayError, RuntimeError):  # the head is away, which the run itself notices
        return None
    machines = [node.total_resources() for node in (*status.active_nodes, *status.idle_nodes)]
    return pending_text(_demands(status), machines)


def _demands(status: ClusterStatus) -> list[tuple[Amounts, int]]:
    asked = status.resource_demands
    counts = Counter[tuple[tuple[str, float], ...]]()
    for demand in (*asked.ray_task_actor_demand, *asked.placement_group_demand):
        for claim in demand.bundles_by_count:
            counts[tuple(sorted(claim.bundle.items()))] += claim.count
    return [(dict(claim), count) for claim, count in counts.items()]


def _holds(machine: Amounts, amounts: Amounts) -> bool:
    return all(machine.get(name, 0.0) >= amount for name, amount in amounts.items())


def _amounts_text(amounts: Amounts) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(amounts.items()))
