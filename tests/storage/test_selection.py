from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinescribe.schemas.errors import DatasetError, StoreError
from kinescribe.storage import uri
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.selection import (
    SELECTION_KEY,
    SELECTION_SCHEMA,
    Selection,
    chosen_units,
    read_selection,
    require_chosen,
    require_selection,
    write_selection,
)
from tests import tiny_dataset

ROWS = [
    {"dataset": "d", "unit_id": "u", "triplet_id": "t1", "score": -0.5, "action_class": "jump"},
    {"dataset": "d", "unit_id": "v", "triplet_id": "t0", "score": -1.5, "action_class": None},
]
SELECTION = Selection(pa.Table.from_pylist(ROWS, SELECTION_SCHEMA), {"top_k": 2}, ("d", "e"))


def test_a_selection_is_read_back(tmp_path: Path):
    target = str(tmp_path / "selection.parquet")
    write_selection(target, SELECTION)
    assert read_selection(target) == SELECTION
    assert read_selection(target).digest == SELECTION.digest


def test_a_selection_lives_in_an_object_store_too(bucket: str):
    target = uri.join(bucket, "selection.parquet")
    write_selection(target, SELECTION)
    assert read_selection(target) == SELECTION


def test_the_same_selection_may_be_written_again_and_another_may_not(tmp_path: Path):
    target = str(tmp_path / "selection.parquet")
    write_selection(target, SELECTION)
    write_selection(target, SELECTION)
    for other in (
        Selection(SELECTION.rows.slice(1), SELECTION.options, SELECTION.datasets),
        Selection(SELECTION.rows, {"top_k": 3}, SELECTION.datasets),
    ):
        with pytest.raises(DatasetError, match="not this selection; name another file"):
            write_selection(target, other)
    assert read_selection(target) == SELECTION


def test_a_selection_is_continued_only_with_its_options_and_datasets(tmp_path: Path):
    target = str(tmp_path / "selection.parquet")
    require_selection(target, {"top_k": 3}, ("d",))
    write_selection(target, SELECTION)
    require_selection(target, SELECTION.options, SELECTION.datasets)
    for options, datasets in (({"top_k": 3}, SELECTION.datasets), (SELECTION.options, ("d",))):
        with pytest.raises(DatasetError, match="not this selection; name another file"):
            require_selection(target, options, datasets)


def test_another_file_of_the_name_is_not_replaced(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    for name in ("folder", "notes.txt"):
        with pytest.raises(DatasetError, match="not this selection; name another file, or remove this one"):
            write_selection(str(tmp_path / name), SELECTION)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_nothing_else_is_left_beside_the_file(tmp_path: Path):
    write_selection(str(tmp_path / "selection.parquet"), SELECTION)
    write_selection(str(tmp_path / "selection.parquet"), SELECTION)
    assert [path.name for path in tmp_path.iterdir()] == ["selection.parquet"]


def test_a_dataset_that_lacks_chosen_rows_is_named(tmp_path: Path):
    (unit,) = tiny_dataset.build(str(tmp_path), [2])
    dataset = Dataset.open(tmp_path)
    ids = dataset.scan(["triplet_id"]).to_table()["triplet_id"]
    chosen = pa.table({"unit_id": [unit.unit_id] * 2, "triplet_id": ids})
    assert chosen_units(dataset, chosen) == {unit.unit_id}
    require_chosen(dataset, chosen, ids)
    with pytest.raises(DatasetError, match=f"{tmp_path} lacks 1 of its chosen triplets, first {ids[1]}"):
        require_chosen(dataset, chosen, ids[:1])
    with pytest.raises(DatasetError, match=f"names 2 units that {tmp_path} lacks, first u;"):
        chosen_units(dataset, SELECTION.rows)


def test_a_selection_that_cannot_be_written_is_an_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        write_selection(str(tmp_path / "file" / "selection.parquet"), SELECTION)


def with_metadata(text: bytes, rows: pa.Table = SELECTION.rows) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows.replace_schema_metadata({SELECTION_KEY: text}), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no parquet at all",
        SELECTION.to_parquet()[:-30],
        SELECTION.to_parquet()[:100] + b"?" * 50 + SELECTION.to_parquet()[150:],
        with_metadata(b"no JSON"),
        with_metadata(b"[]"),
        with_metadata(b'"\xff"'),
        with_metadata(b"[" * 100_000),
        with_metadata(b"\xf0 of a flipped bit"),
        SELECTION.to_parquet().replace(b"jump", b"j\xf5mp"),
        with_metadata(b'{"options": {}}'),
        with_metadata(b'{"options": {}, "datasets": []}', SELECTION.rows.drop_columns("score")),
    ],
)
def test_a_file_that_is_not_a_selection_is_refused_with_a_remedy(tmp_path: Path, content: bytes):
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(DatasetError, match=r"x\.parquet.*name a file that `kinescribe curate` wrote"):
        read_selection(str(tmp_path / "x.parquet"))


def test_a_foreign_table_a_folder_and_nothing_are_refused(tmp_path: Path):
    pq.write_table(SELECTION.rows, tmp_path / "foreign.parquet")
    (tmp_path / "folder").mkdir()
    for name in ("foreign.parquet", "folder", "nothing"):
        with pytest.raises(DatasetError, match=f"{name}.*kinescribe curate"):
            read_selection(str(tmp_path / name))
