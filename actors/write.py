"""The write pool's task: an annotated unit in, committed to the dataset, a small receipt out."""

from __future__ import annotations

import pyarrow as pa

from actors.rows import pack, unpack
from schemas.outcomes import receipt_of
from storage.shards import write_unit


def commit(rows: pa.Table, dataset: str) -> pa.Table:
    """Publish the unit of a row of (WorkUnit, table, outcomes); give a row of its Receipt.

    A unit that another writer published first is left as it is: the rows are the same.
    """
    unit, table, outcomes = unpack(rows)
    write_unit(dataset, unit, table, outcomes)
    return pack(unit.unit_id, receipt_of(outcomes))
