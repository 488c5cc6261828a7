import pyarrow as pa
import pytest

from kinescribe.schemas.dataset import HASHES, OPTIONAL_FIELDS
from kinescribe.storage.rows import rows_problem, schema_problem

GOOD = {
    "sharpness": 80.5,
    "brightness": 1.0,
    "clipping": 0.0,
    "bars": 0.25,
    "text_share": 0.5,
    **dict.fromkeys(HASHES, b"0123456789abcdef"),
    "action_probability": 0.25,
    "action_runner_up": "pan left",
    "context": [{"bytes": b"a picture", "path": None}],
}


def problem(**values: object) -> str | None:
    schema = pa.schema([field for field in OPTIONAL_FIELDS if field.name in values])
    return rows_problem(pa.Table.from_pylist([values], schema), (2, 3))


def test_quality_may_be_anything_in_its_range_or_missing():
    assert problem(**GOOD) is None
    assert problem(**dict.fromkeys(GOOD)) is None
    assert set(GOOD) == {field.name for field in OPTIONAL_FIELDS}


@pytest.mark.parametrize("image", [None, {"bytes": None, "path": "a.jpg"}])
def test_a_frame_between_that_is_not_there_is_a_problem(image: object):
    assert problem(context=[GOOD["context"][0], image]) == "context lacks an image in a row"
    assert problem(context=[]) is None


@pytest.mark.parametrize("name", ["sharpness", "brightness", "clipping", "bars", "text_share"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_measure_that_is_no_number_from_0_on_is_a_problem(name: str, value: float):
    assert problem(**{name: value}) == f"{name} has values that are negative or no finite numbers"


@pytest.mark.parametrize("name", ["brightness", "clipping", "bars", "text_share", "action_probability"])
def test_a_share_above_1_is_a_problem(name: str):
    assert problem(**{name: 1.01}) == f"{name} has values above 1"
    assert problem(sharpness=1000.0) is None


@pytest.mark.parametrize("name", HASHES)
def test_a_hash_of_another_length_is_a_problem(name: str):
    assert problem(**{name: b"short"}) == f"{name} has 5 bytes in a row, not 16"


def test_a_column_of_quality_with_another_type_is_a_problem():
    schema = pa.schema([("sharpness", pa.string())])
    assert schema_problem(schema) == "column sharpness has the type string, not float"


def test_texts_that_are_not_utf8_are_a_problem():
    texts = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    )
    assert "Invalid UTF8" in str(rows_problem(pa.table({"video": texts}), (2, 3)))


def test_every_column_that_is_there_is_looked_at():
    rows = pa.table(
        {"triplet_id": ["../x"]}, pa.schema([pa.field("triplet_id", pa.string(), nullable=False)])
    )
    assert "triplet_id" in str(rows_problem(rows, (2, 3)))
    # Columns before and after are missing.
    codes = pa.table({"target_codes": pa.array([[1]], pa.list_(pa.uint16()))})
    assert rows_problem(codes, (2, 3)) == "target_codes has 1 values in a row, where the codec has 2×3 tokens"
