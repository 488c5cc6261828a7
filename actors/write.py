"""The write pool's task: an annotated unit in, committed to the dataset, a small receipt out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from actors.rows import pack, unpack
from schemas.outcomes import ClipOutcome, Status
from storage.shards import write_unit


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the driver learns of a committed unit: clips by status, triplets, rejects by code."""

    kept: int = 0
    dropped: int = 0
    rejected: int = 0
    triplets: int = 0
    rejects: Counter[str] = field(default_factory=Counter[str])

    @property
    def clips(self) -> int:
        return self.kept + self.dropped + self.rejected

    def __add__(self, other: Receipt) -> Receipt:
        return Receipt(
            self.kept + other.kept,
            self.dropped + other.dropped,
            self.rejected + other.rejected,
            self.triplets + other.triplets,
            self.rejects + other.rejects,
        )


def receipt_of(outcomes: Sequence[ClipOutcome]) -> Receipt:
    """The outcomes of a unit's clips, counted."""
    statuses = Counter(outcome.status for outcome in outcomes)
    return Receipt(
        statuses[Status.KEPT],
        statuses[Status.DROPPED],
        statuses[Status.REJECTED],
        sum(outcome.num_triplets for outcome in outcomes),
        Counter(str(outcome.reason) for outcome in outcomes if outcome.status is Status.REJECTED),
    )


def commit(rows: pa.Table, dataset: str) -> pa.Table:
    """Publish the unit of a row of (WorkUnit, table, outcomes); give a row of its Receipt.

    A unit that another writer published first is left as it is: the rows are the same.
    """
    unit, table, outcomes = unpack(rows)
    write_unit(dataset, unit, table, outcomes)
    return pack(unit.unit_id, receipt_of(outcomes))
