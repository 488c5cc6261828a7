"""The write pool's actor: commits an annotated unit to the dataset, and returns a small receipt.

An actor although it holds only counters: Ray ends a task's process whenever it waits for work, and a new
process takes seconds to start beside busy actors.
"""

from __future__ import annotations

import pyarrow as pa

from kinescribe.actors.metrics import UnitCounters
from kinescribe.actors.rows import pack, unpack
from kinescribe.actors.timing import timed
from kinescribe.schemas.errors import UserError
from kinescribe.schemas.outcomes import receipt_of
from kinescribe.storage.shards import write_unit


class WriteActor:
    """Turns a row of (WorkUnit, table, outcomes, StageTimes) into a row of its Receipt, or of a UserError.

    The error is returned as a value, because Ray would turn a raised one into text. That of another stage is
    passed on.
    """

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self.counters = UnitCounters()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Commit the unit, unless another writer committed it first: its rows are the same."""
        if isinstance(labelled := unpack(rows), UserError):
            return rows
        unit, table, outcomes, stages = labelled
        receipt = receipt_of(outcomes)
        try:
            is_new, write = timed("write", lambda: write_unit(self.dataset, unit, table, outcomes, stages))
        except UserError as error:
            return pack(unit.unit_id, error)
        if is_new:
            self.counters.add(receipt, table, [*stages, write])
        return pack(unit.unit_id, receipt)
