"""A work unit as a row of the pipeline: its id, and the next stage's input as bytes.

Bytes, because the types of Ray Data's tensor and object columns drift from block to block.
"""

from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa

ROW = pa.schema([("unit_id", pa.string()), ("payload", pa.large_binary())])


def pack(unit_id: str, payload: object) -> pa.Table:
    """A table of one row."""
    return pa.table([[unit_id], [pickle.dumps(payload)]], schema=ROW)


def unpack(rows: pa.Table) -> Any:
    """The payload of a table of one row. It was pickled by another stage of the same job, never by a user."""
    assert rows.num_rows == 1, rows.num_rows
    return pickle.loads(rows["payload"][0].as_buffer())
