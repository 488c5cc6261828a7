from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest

from kinescribe.labeling import materialize
from kinescribe.labeling.curate import curate
from kinescribe.labeling.materialize import require_materialized, write_chosen
from kinescribe.schemas.clips import WorkUnit, stable_id
from kinescribe.schemas.config import CurateConfig
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import DropReason, RejectCode
from kinescribe.storage.audit import check
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind, read_run
from kinescribe.storage.selection import read_selection, write_selection
from tests.tiny_dataset import build, clip, commit, flip_a_bit, run_of


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    folder = str(tmp_path / "dataset")
    build(folder, [3, DropReason.STATIC, 1, 2, 2])
    return folder


@pytest.fixture
def selection(dataset: str, tmp_path: Path) -> str:
    """Four of the dataset's eight rows, from all four clips that have rows."""
    path = str(tmp_path / "selection.parquet")
    curate([dataset], path, CurateConfig(top_k=4))
    return path


def carrying(folder: Path, columns: dict[str, list[Any]], model: str) -> str:
    """A dataset with one clip of one triplet, with carried columns, labelled by this model."""
    item = clip(folder.name)
    unit = WorkUnit(item.clip_id, (item,), pa.table(columns))
    bind(str(folder), replace(run_of([item], model=model), models={"dynamics": model}))
    write_plan(str(folder), [unit])
    commit(str(folder), unit, {item.clip_id: 1})
    return str(folder)


def test_the_chosen_rows_are_a_dataset_that_passes_the_audit(dataset: str, selection: str, tmp_path: Path):
    out = str(tmp_path / "out")
    write_chosen([dataset], selection, out)
    assert check(out).problems == []
    chosen = read_selection(selection).rows["triplet_id"].to_pylist()
    expected = [
        row for row in Dataset.open(dataset).scan().to_table().to_pylist() if row["triplet_id"] in chosen
    ]
    assert Dataset.open(out).scan().to_table().to_pylist() == expected
    assert len(expected) == 4


def test_clips_that_were_tried_again_are_written_with_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(materialize, "TRIPLETS_PER_UNIT", 1)
    folder, out, selection = (str(tmp_path / name) for name in ("retried", "out", "selection"))
    units = build(folder, [1, RejectCode.TIMEOUT, RejectCode.TIMEOUT, 2])
    again = {unit.clips[index].clip_id: 2 for unit, index in zip(units, (1, 0), strict=True)}
    retry = WorkUnit(
        stable_id("retry"), tuple(clip for unit in units for clip in unit.clips if clip.clip_id in again)
    )
    write_plan(folder, [retry], retry=1)
    commit(folder, retry, again)
    curate([folder], selection, CurateConfig(top_k=9))
    write_chosen([folder], selection, out)
    assert check(out).problems == []
    written, chosen = (Dataset.open(name).scan().to_table().sort_by("triplet_id") for name in (out, folder))
    assert written.to_pylist() == chosen.to_pylist()
    assert len(written) == 7


def test_datasets_opens_it(dataset: str, selection: str, tmp_path: Path):
    write_chosen([dataset], selection, str(tmp_path / "out"))
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == 4
    assert rows[0]["source"].size == (16, 12)


def test_its_run_names_the_selection_and_its_options(dataset: str, selection: str, tmp_path: Path):
    write_chosen([dataset], selection, str(tmp_path / "out"))
    identity = read_run(str(tmp_path / "out"))["identity"]
    assert identity["config.selection"] == read_selection(selection).digest
    assert identity["config.curate.top_k"] == 4
    assert identity["models.dynamics"] == "weights-of-tests"


def test_rows_of_two_datasets_keep_the_columns_and_models_of_both(tmp_path: Path):
    sources = [
        carrying(tmp_path / "x", {"robot": ["left"]}, "weights b"),
        carrying(tmp_path / "y", {"take": [7], "robot": ["right"]}, "weights a"),
    ]
    selection, out = str(tmp_path / "selection"), str(tmp_path / "out")
    curate(sources, selection, CurateConfig(top_k=9))
    seen: list[tuple[int, int]] = []
    write_chosen(sources, selection, out, lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2)]
    assert check(out).problems == []
    rows = Dataset.open(out).scan().to_table().select(["video", "robot", "take"]).to_pylist()
    assert sorted(rows, key=lambda row: row["video"]) == [
        {"video": "/videos/x.mp4", "robot": "left", "take": None},
        {"video": "/videos/y.mp4", "robot": "right", "take": 7},
    ]
    assert read_run(out)["identity"]["models.dynamics"] == "weights a, weights b"


def test_a_column_of_two_types_is_refused(tmp_path: Path):
    sources = [carrying(tmp_path / name, {"take": [take]}, name) for name, take in (("x", 7), ("y", "b"))]
    selection = str(tmp_path / "selection")
    curate(sources, selection, CurateConfig(top_k=9))
    with pytest.raises(DatasetError, match=r"has the column take as .*; curate each on its own"):
        write_chosen(sources, selection, str(tmp_path / "out"))


def test_it_resumes_and_refuses_another_selection(
    dataset: str, selection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(materialize, "TRIPLETS_PER_UNIT", 1)
    out = tmp_path / "out"
    write_chosen([dataset], selection, str(out))
    first, *others = sorted((out / "data").iterdir())
    assert others
    first.unlink()
    before = {path: path.stat().st_mtime_ns for path in others}
    write_chosen([dataset], selection, str(out))
    assert check(str(out)).problems == []
    assert before == {path: path.stat().st_mtime_ns for path in others}
    curate([dataset], str(tmp_path / "other"), CurateConfig(top_k=2))
    with pytest.raises(DatasetError, match="belongs to another run"):
        write_chosen([dataset], str(tmp_path / "other"), str(out))


def test_a_dataset_that_lacks_a_chosen_triplet_is_refused(dataset: str, selection: str, tmp_path: Path):
    found = read_selection(selection)
    rows = found.rows.set_column(2, found.rows.schema.field(2), [["missing", "a", "b", "c"]])
    write_selection(str(tmp_path / "other"), replace(found, rows=rows))
    with pytest.raises(
        DatasetError, match=rf"^{dataset} lacks 4 of its chosen triplets, first a; curate it again"
    ):
        write_chosen([dataset], str(tmp_path / "other"), str(tmp_path / "out"))


def test_a_bit_that_flipped_is_not_copied(dataset: str, selection: str, tmp_path: Path):
    flip_a_bit(dataset)
    with pytest.raises(DatasetError, match=r"CRC checksum .*`check` says what is damaged"):
        write_chosen([dataset], selection, str(tmp_path / "out"))


def test_datasets_of_two_codecs_are_refused(dataset: str, selection: str, tmp_path: Path):
    other = str(tmp_path / "x")
    bind(other, replace(run_of([clip("x")]), codec_id="another-codec"))
    write_plan(other, [])
    with pytest.raises(DatasetError, match=r"another-codec.*curate each on its own"):
        write_chosen([dataset, other], selection, str(tmp_path / "out"))


def test_a_folder_with_other_files_is_refused_beforehand(dataset: str, selection: str, tmp_path: Path):
    require_materialized(str(tmp_path / "new"))
    (tmp_path / "empty").mkdir()
    require_materialized(str(tmp_path / "empty"))
    write_chosen([dataset], selection, str(tmp_path / "begun"))
    require_materialized(str(tmp_path / "begun"))
    with pytest.raises(DatasetError, match="belongs to another run; choose another output folder"):
        require_materialized(dataset)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    with pytest.raises(DatasetError, match=r"mine contains a README\.md but no run\.json"):
        require_materialized(str(tmp_path / "mine"))
