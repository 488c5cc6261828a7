from collections import Counter

import pytest

from kinescribe.actors.rows import pack, unpack
from kinescribe.actors.write import WriteActor
from kinescribe.labeling.annotate import Annotator
from kinescribe.schemas.config import Annotation
from kinescribe.schemas.errors import ServerAway, StoreError
from kinescribe.schemas.outcomes import Receipt, StageTime
from kinescribe.storage.shards import committed_units, read_footer, unit_uri
from tests.fake_clips import UNIT_ID, dropped, extracted, rejected, unit
from tests.tiny_vlm import tiny_vlm

STAGES = [StageTime("decode", 1e9, 1.5, "node/7", 1.2), StageTime("label", 1e9 + 2, 0.5, "node/8", 0.4)]
CLIPS = [extracted("a"), rejected("r"), dropped("d"), extracted("b", 4)]


@pytest.fixture(scope="module")
def row():
    table, outcomes = Annotator(tiny_vlm(), tiny_vlm().codec, Annotation(), 8).annotate(CLIPS)
    return pack("unit", (unit(*CLIPS), table, outcomes, STAGES))


def test_a_committed_unit_gives_a_receipt_of_its_outcomes(tmp_path, row):
    receipt = unpack(WriteActor(str(tmp_path))(row))
    assert receipt == Receipt(2, 1, 1, 5, Counter(unreadable=1))
    assert committed_units(str(tmp_path)) == {UNIT_ID}


def test_a_committed_unit_records_the_time_of_its_stages(tmp_path, row):
    WriteActor(str(tmp_path))(row)
    assert list(read_footer(unit_uri(str(tmp_path), UNIT_ID)).stages) == STAGES


def test_a_unit_that_was_committed_before_gives_the_same_receipt(tmp_path, row):
    commit = WriteActor(str(tmp_path))
    first = commit(row)
    assert commit(row) == first


def test_a_unit_that_cannot_be_written_returns_the_error(tmp_path, row):
    (tmp_path / "full").write_bytes(b"")
    error = unpack(WriteActor(str(tmp_path / "full" / "dataset"))(row))
    assert isinstance(error, StoreError)
    assert "cannot be written" in str(error)


def test_an_error_of_another_stage_is_passed_on(tmp_path):
    error = unpack(WriteActor(str(tmp_path / "dataset"))(pack("unit", ServerAway("away"))))
    assert isinstance(error, ServerAway)
    assert not (tmp_path / "dataset").exists()
