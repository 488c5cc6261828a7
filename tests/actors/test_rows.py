import pytest

from kinescribe.actors.rows import ROW, pack, unpack
from tests.fake_clips import extracted, unit


def test_a_payload_survives_the_row():
    clips = [extracted("a"), extracted("b")]
    payload = (unit(*clips), clips)
    row = pack("u", payload)
    assert row.schema == ROW
    assert unpack(row) == payload


def test_every_row_has_the_same_schema_whatever_it_carries():
    assert pack("u", None).schema == pack("u", [b"x" * 1000, {"a": 1.5}]).schema


def test_a_table_of_two_rows_is_refused():
    import pyarrow as pa

    with pytest.raises(AssertionError):
        unpack(pa.concat_tables([pack("u", 1), pack("v", 2)]))
