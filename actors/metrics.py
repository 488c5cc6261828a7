"""Prometheus counters of committed units, which Ray exports as `ray_kinescribe_…_total`.

Queues, idle actors and machines are not counted here: Ray exports these itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from ray.util.metrics import Counter

from kinescribe.schemas.outcomes import Receipt, StageTime


@dataclass(frozen=True, slots=True)
class Count:
    """By how much a counter grows."""

    counter: str
    value: float
    tags: Mapping[str, str]


def counts(receipt: Receipt, table: pa.Table, stages: Sequence[StageTime]) -> Iterator[Count]:
    """What a committed unit adds to each counter, including zeros."""
    yield Count("clips", receipt.kept, {"status": "kept"})
    yield Count("clips", receipt.dropped, {"status": "dropped"})
    yield Count("clips", receipt.rejected, {"status": "rejected"})
    yield Count("pairs", receipt.triplets, {})
    num_tokens: int | None = pc.call_function("sum", [table["action_tokens"]]).as_py()
    yield Count("tokens", num_tokens or 0, {})
    for code, number in receipt.rejects.items():
        yield Count("rejects", number, {"code": code})
    for stage in stages:
        yield Count("stage_seconds", stage.seconds, {"stage": stage.stage})


class UnitCounters:
    """This process's counters; Prometheus sums those of all processes."""

    def __init__(self) -> None:
        self.counters = {
            "clips": Counter("kinescribe_clips", "Committed clips, by outcome.", ("status",)),
            "pairs": Counter("kinescribe_pairs", "Kept pairs, each a row of the dataset."),
            "tokens": Counter("kinescribe_tokens", "Tokens of the written actions."),
            "rejects": Counter("kinescribe_rejects", "Rejected clips, by code.", ("code",)),
            "stage_seconds": Counter("kinescribe_stage_seconds", "Seconds of work, by stage.", ("stage",)),
        }

    def add(self, receipt: Receipt, table: pa.Table, stages: Sequence[StageTime]) -> None:
        """Count a unit that was committed."""
        for count in counts(receipt, table, stages):
            if count.value > 0:  # Ray refuses to add 0
                self.counters[count.counter].inc(count.value, dict(count.tags))
