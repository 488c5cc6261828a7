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
}


def problem(**values: object) -> str | None:
    schema = pa.schema([field for field in OPTIONAL_FIELDS if field.name in values])
    return rows_problem(pa.Table.from_pylist([values], schema), (2, 3))


def test_quality_may_be_anything_in_its_range_or_missing():
    assert problem(**GOOD) is None
    assert problem(**dict.fromkeys(GOOD)) is None
    assert set(GOOD) == {field.name for field in OPTIONAL_FIELDS}


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
