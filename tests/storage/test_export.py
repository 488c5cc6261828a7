import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from PIL import Image

from kinescribe.labeling.units import plan_units
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import RejectCode
from kinescribe.storage.card import write_card
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.export import export_hub, export_webdataset
from kinescribe.storage.plan import write_plan
from kinescribe.storage.rows import Rows
from kinescribe.storage.run import bind, read_run
from kinescribe.storage.selection import SELECTION_SCHEMA, Selection, write_selection
from kinescribe.storage.shards import write_unit
from tests import tiny_dataset
from tests.tiny_dataset import build, clip, flip_a_bit, outcome, run_of, table


def rows_of(dataset: Path) -> list[dict[str, Any]]:
    return Dataset.open(str(dataset)).scan().to_table().to_pylist()


def silent(done: int, total: int) -> None:
    assert done <= total


def selection(dataset: Path, ids: Sequence[str]) -> str:
    """A selection of these triplets, like one of `curate`."""
    run = read_run(str(dataset))["fingerprint"]
    paths = Dataset.open(str(dataset)).scan().to_table(columns=["triplet_id", "__filename"]).to_pylist()
    rows = [
        {
            "dataset": run,
            "unit_id": Path(path["__filename"]).stem,
            "triplet_id": path["triplet_id"],
            "score": 0.0,
            "action_class": None,
        }
        for path in paths
        if path["triplet_id"] in ids
    ]
    out = str(dataset / "selection.parquet")
    write_selection(out, Selection(pa.Table.from_pylist(rows, SELECTION_SCHEMA), {}, (run,)))
    return out


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    build(str(tmp_path / "dataset"), [2, RejectCode.UNREADABLE, 3, 1])
    return tmp_path / "dataset"


def test_datasets_reads_the_tars(dataset: Path, tmp_path: Path):
    export_webdataset(str(dataset), str(tmp_path / "tars"), None, silent)
    files = [str(path) for path in sorted((tmp_path / "tars").glob("*.tar"))]
    read = list(datasets.load_dataset("webdataset", data_files=files, split="train", streaming=True))
    expected = rows_of(dataset)
    assert [sample["__key__"] for sample in read] == [row["triplet_id"] for row in expected]
    for sample, row in zip(read, expected, strict=True):
        assert sample["source.jpg"].size == (16, 12)
        said = sample["json"]
        assert said["action"] == row["action"]
        assert said["action_logprob"] == row["action_logprob"]
        assert said["importance"] == row["importance"]
        assert (said["source_codes"], said["target_codes"]) == (row["source_codes"], row["target_codes"])
        assert said["codec"] == {"id": "codec-of-tests", "grid": [2, 3]}


def test_datasets_reads_tars_whose_first_triplets_have_no_class(tmp_path: Path):
    clips = [clip("a"), clip("b")]
    run = run_of(clips)
    (unit,) = plan_units(clips, 2, run.fingerprint)
    bind(str(tmp_path / "dataset"), run)
    write_plan(str(tmp_path / "dataset"), [unit])
    rows = [tiny_dataset.row(one, index) for one in clips for index in range(6)]
    rows = [row | {"action_class": None} for row in rows[:6]] + rows[6:]
    write_unit(str(tmp_path / "dataset"), unit, table(rows), [outcome(one, 6) for one in clips])

    export_webdataset(str(tmp_path / "dataset"), str(tmp_path / "tars"), None, silent)
    tar, cache = str(tmp_path / "tars" / "000000.tar"), str(tmp_path / "cache")
    read = datasets.load_dataset("webdataset", data_files=[tar], split="train", cache_dir=cache)
    assert [sample["json"]["action_class"] for sample in read] == [""] * 6 + ["jump"] * 6


def test_a_tar_holds_images_as_they_are_stored_and_no_more_than_its_size(dataset: Path, tmp_path: Path):
    rows = rows_of(dataset)
    two = 2 * (len(rows[0]["source"]["bytes"]) + len(rows[0]["target"]["bytes"]) + 1000)
    export_webdataset(str(dataset), str(tmp_path / "tars"), None, silent, shard_bytes=two)
    tars = sorted((tmp_path / "tars").iterdir())
    assert [tar.name for tar in tars] == ["000000.tar", "000001.tar", "000002.tar"]
    stored: dict[str, bytes] = {}
    for path in tars:
        with tarfile.open(path) as tar:
            stored |= {name: tar.extractfile(name).read() for name in tar.getnames()}  # pyright: ignore
    for row in rows:
        assert stored[f"{row['triplet_id']}.source.jpg"] == row["source"]["bytes"]
        assert json.loads(stored[f"{row['triplet_id']}.json"])["clip_id"] == row["clip_id"]
    assert len(stored) == 3 * len(rows)


def test_datasets_streams_the_hub_folder_with_its_images(dataset: Path, tmp_path: Path):
    export_hub(str(dataset), str(tmp_path / "hub"), None, silent)
    read = list(datasets.load_dataset(str(tmp_path / "hub"), split="train", streaming=True))
    expected = rows_of(dataset)
    assert [row["triplet_id"] for row in read] == [row["triplet_id"] for row in expected]
    assert all(isinstance(row["source"], Image.Image) for row in read)
    assert sorted(
        path.relative_to(tmp_path / "hub").as_posix() for path in (tmp_path / "hub").rglob("*.*")
    ) == [
        "README.md",
        "data/train-00000.parquet",
    ]
    assert "| 4 | 3 | 0 | 1 | 0 | 6 |" in (tmp_path / "hub/README.md").read_text()


def test_the_licence_of_the_datasets_card_goes_along(tmp_path: Path):
    build(str(tmp_path / "ds"), [2, 1])
    write_card(str(tmp_path / "ds"))
    card = tmp_path / "ds" / "README.md"
    card.write_text(card.read_text().replace("license: unknown", "license: cc0-1.0"))
    export_hub(str(tmp_path / "ds"), str(tmp_path / "hub"), None, silent)
    assert "license: cc0-1.0\n" in (tmp_path / "hub" / "README.md").read_text()


def test_shards_hold_every_row_once_whatever_their_size(dataset: Path, tmp_path: Path):
    export_hub(str(dataset), str(tmp_path / "hub"), None, silent, shard_bytes=1)
    assert len(list((tmp_path / "hub/data").iterdir())) == 2
    read = datasets.load_dataset(str(tmp_path / "hub"), split="train", streaming=True)
    assert [row["triplet_id"] for row in read] == [row["triplet_id"] for row in rows_of(dataset)]


def test_all_files_are_listed_once_and_not_for_each_unit(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    listed: list[int] = []
    files = Rows.files.fget
    assert files
    monkeypatch.setattr(Rows, "files", property(lambda rows: listed.append(1) or files(rows)))
    export_hub(str(dataset), str(tmp_path / "hub"), None, silent)
    assert sum(listed) == 1


def test_a_selection_exports_its_triplets_alone(dataset: Path, tmp_path: Path):
    ids = [row["triplet_id"] for row in rows_of(dataset)][1::3]
    chosen = selection(dataset, ids)
    export_hub(str(dataset), str(tmp_path / "hub"), chosen, silent)
    export_webdataset(str(dataset), str(tmp_path / "tars"), chosen, silent)
    read = datasets.load_dataset(str(tmp_path / "hub"), split="train", streaming=True)
    assert [row["triplet_id"] for row in read] == ids
    with tarfile.open(tmp_path / "tars/000000.tar") as tar:
        assert [name for name in tar.getnames() if name.endswith(".json")] == [f"{id}.json" for id in ids]
    assert "| 2 | 2 | 0 | 0 | 0 | 2 |" in (tmp_path / "hub/README.md").read_text()


def test_a_selection_of_another_dataset_and_a_folder_in_use_are_refused(dataset: Path, tmp_path: Path):
    build(str(tmp_path / "another"), [1])
    chosen = selection(tmp_path / "another", [row["triplet_id"] for row in rows_of(tmp_path / "another")])
    with pytest.raises(DatasetError, match="has no triplet of"):
        export_hub(str(dataset), str(tmp_path / "hub"), chosen, silent)
    with pytest.raises(DatasetError, match="name an empty folder"):
        export_webdataset(str(dataset), str(tmp_path / "another"), None, silent)


@pytest.mark.parametrize("export", [export_webdataset, export_hub])
def test_a_dataset_without_triplets_is_refused_and_nothing_written(tmp_path: Path, export):
    build(str(tmp_path / "dataset"), [RejectCode.UNREADABLE])
    with pytest.raises(DatasetError, match="has no triplets: all clips were dropped or rejected"):
        export(str(tmp_path / "dataset"), str(tmp_path / "out"), None, silent)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("export", [export_webdataset, export_hub])
def test_a_bit_that_flipped_is_not_exported(dataset: Path, tmp_path: Path, export):
    flip_a_bit(str(dataset))
    with pytest.raises(DatasetError, match=r"CRC checksum .*`check` says what is damaged"):
        export(str(dataset), str(tmp_path / "out"), None, silent)


def test_a_png_gets_its_extension(tmp_path: Path):
    data = io.BytesIO()
    Image.new("RGB", (2, 2)).save(data, "PNG")
    one, run = clip("a"), run_of([clip("a")])
    (unit,) = plan_units([one], 1, run.fingerprint)
    bind(str(tmp_path / "dataset"), run)
    write_plan(str(tmp_path / "dataset"), [unit])
    rows = table([{**tiny_dataset.row(one, 0), "source": {"bytes": data.getvalue(), "path": None}}])
    write_unit(str(tmp_path / "dataset"), unit, rows, [outcome(one, 1)])
    export_webdataset(str(tmp_path / "dataset"), str(tmp_path / "tars"), None, silent)
    with tarfile.open(tmp_path / "tars/000000.tar") as tar:
        assert [name.partition(".")[2] for name in tar.getnames()] == ["source.png", "target.jpg", "json"]
