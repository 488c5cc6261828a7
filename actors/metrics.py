"""What Prometheus sees of committed units: counters, which Ray exports as `ray_kinescribe_…_total`.

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
    """How much a counter grows."""

    counter: str
    value: float
    tags: Mapping[str, str]


def counts(receipt: Receipt, table: pa.Table, stages: Sequence[StageTime]) -> Iterator[Count]:
    """What a committed unit adds to each counter; 0 as well."""
    yield Count("clips", receipt.kept, {"status": "kept"})
    yield Count("clips", receipt.dropped, {"status": "dropped"})
    yield Count("clips", receipt.rejected, {"status": "rejected"})
    yield Count("pairs", receipt.triplets, {})
    yield Count("tokens", pc.sum(table["action_tokens"]).as_py() or 0, {})
    for code, number in receipt.rejects.items():
        yield Count("rejects", number, {"code": code})
    for stage in stages:
        yield Count("stage_seconds", stage.seconds, {"stage": stage.stage})


class UnitCounters:
    """The counters of this process; Prometheus adds up those of all."""

    def __init__(self) -> None:
        self.counters = {
            "clips": Counter("kinescribe_clips", "Clips committed, by how they ended.", ("status",)),
            "pairs": Counter("kinescribe_pairs", "Pairs that were kept, each a row of the dataset."),
            "tokens": Counter("kinescribe_tokens", "Tokens of the actions that were written."),
            "rejects": Counter("kinescribe_rejects", "Clips that were rejected, by code.", ("code",)),
            "stage_seconds": Counter("kinescribe_stage_seconds", "Seconds that stages worked.", ("stage",)),
        }

    def add(self, receipt: Receipt, table: pa.Table, stages: Sequence[StageTime]) -> None:
        """Count a unit that was committed."""
        for count in counts(receipt, table, stages):
            if count.value > 0:  # Ray refuses to add nothing
                self.counters[count.counter].inc(count.value, dict(count.tags))
