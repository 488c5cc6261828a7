"""The write pool's actor: an annotated unit in, committed to the dataset, a small receipt out.

An actor, though it holds only counters: Ray ends a task's process whenever it waits for work, and one takes
seconds to start beside busy actors.
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

    An error is handed on as a value, since Ray would make a text of it.
    """

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self.counters = UnitCounters()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Publish the unit; where another writer published it first, leave that: the rows are the same."""
        unit, table, outcomes, stages = unpack(rows)
        receipt = receipt_of(outcomes)
        try:
            is_new, write = timed("write", lambda: write_unit(self.dataset, unit, table, outcomes, stages))
        except UserError as error:
            return pack(unit.unit_id, error)
        if is_new:
            self.counters.add(receipt, table, [*stages, write])
        return pack(unit.unit_id, receipt)
