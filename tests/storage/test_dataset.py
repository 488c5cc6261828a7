"""A dataset on S3 is read once, counted by a proxy; and each command on a dataset without rows."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kinescribe.labeling.curate import curate
from kinescribe.labeling.materialize import write_chosen
from kinescribe.labeling.units import plan_units
from kinescribe.reports.comparison import write_comparison
from kinescribe.reports.report import write_report
from kinescribe.schemas.config import CurateConfig
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import DropReason, RejectCode
from kinescribe.storage import objects
from kinescribe.storage.audit import check, rejects, status, totals
from kinescribe.storage.card import write_card
from kinescribe.storage.dataset import Dataset, no_triplets, open_datasets
from kinescribe.storage.estimate import compare, write_estimate
from kinescribe.storage.export import export_hub, export_webdataset
from kinescribe.storage.plan import write_plan
from tests.fault_proxy import FaultProxy
from tests.storage.test_estimate import ESTIMATE
from tests.tiny_dataset import Ending, build, clip, commit, flip_a_bit

Command = Callable[[Dataset, Path], object]


def progress(done: int, total: int) -> None: ...


def run_status(dataset: Dataset, folder: Path) -> None:
    assert compare(dataset, totals(dataset).stage_s)


def run_curate(dataset: Dataset, folder: Path) -> None:
    selection = str(folder / "selection.parquet")
    curate([dataset], selection, CurateConfig(top_k=2))
    write_chosen([dataset], selection, str(folder / "chosen"))


COMMANDS: dict[str, Command] = {
    "status": run_status,
    "status --rejects": lambda dataset, folder: list(rejects(dataset)),
    "check": lambda dataset, folder: check(dataset),
    "card": lambda dataset, folder: write_card(dataset),
    "report": lambda dataset, folder: write_report(dataset, f"{folder}/report.html"),
    "report --compare": lambda dataset, folder: write_comparison(dataset, dataset, f"{folder}/c.html", 5),
    "curate --materialize": run_curate,
    "export hub": lambda dataset, folder: export_hub(dataset, f"{folder}/hub", None, progress),
    "export webdataset": lambda dataset, folder: export_webdataset(dataset, f"{folder}/web", None, progress),
}


@pytest.fixture
def remote(bucket: str, tmp_path: Path) -> str:
    """A dataset on S3 with a retry and an estimate."""
    local = str(tmp_path / "dataset")
    build(local, [2, RejectCode.TIMEOUT, 1, DropReason.STATIC])
    write_plan(local, plan_units([clip("1")], 1, "retry"), retry=1)
    fingerprint = Dataset.open(local).fingerprint
    write_estimate(local, replace(ESTIMATE, fingerprint=fingerprint))
    for path in Path(local).rglob("*"):
        if path.is_file():
            objects.create(f"{bucket}/dataset/{path.relative_to(local).as_posix()}", path.read_bytes())
    return f"{bucket}/dataset"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_asks_once_for_run_plans_and_units(
    command: str, remote: str, proxy: FaultProxy, tmp_path: Path
):
    proxy.fail("", [])  # only records the requests
    dataset = Dataset.open(remote)
    COMMANDS[command](dataset, tmp_path)
    gets = (request for request in proxy.seen if request.startswith("GET "))
    counts = Counter(request.partition("?")[0].rpartition("/")[2] for request in gets)
    units = {f"{unit}.parquet" for unit in dataset.committed}
    once = {"run.json": 1, "clips.parquet": 1, "retry-0001.parquet": 1}
    assert {name: count for name, count in counts.items() if name in once} == once
    assert counts["estimate.json"] == (command == "status")
    assert counts.keys() - once.keys() <= units | {"README.md", "estimate.json", dataset.uri.split("/")[2]}
    if command in ("status", "status --rejects", "check", "card"):
        assert {counts[unit] for unit in units} == {1}
    listed = Counter(request for request in proxy.seen if "list-type" in request and "data%2F" in request)
    assert set(listed.values()) == {1}


READERS = {name: command for name, command in COMMANDS.items() if name not in ("status", "card")} | {
    "scan": lambda dataset, folder: dataset.scan().to_table()
}
WITHOUT_ROWS: dict[str, tuple[list[Ending], int]] = {
    "no kept clip": ([DropReason.STATIC, RejectCode.TIMEOUT, DropReason.STATIC], 0),
    "no committed unit": ([1, 2], 1),
}
ANSWERS = {
    "no kept clip": ("status --rejects", "check", "report", "report --compare", "scan"),
    "no committed unit": ("status --rejects", "check"),
}


@pytest.mark.parametrize("state", WITHOUT_ROWS)
@pytest.mark.parametrize("command", READERS)
def test_a_dataset_without_rows_gives_an_answer_or_an_error_in_words(
    command: str, state: str, tmp_path: Path
):
    endings, pending = WITHOUT_ROWS[state]
    build(str(tmp_path / "dataset"), endings, pending=pending)
    dataset = Dataset.open(tmp_path / "dataset")
    if command in ANSWERS[state]:
        READERS[command](dataset, tmp_path)
        return
    said = (
        "has no triplets: all clips were dropped or rejected"
        if state == "no kept clip"
        else "has no committed unit yet"
    )
    with pytest.raises(DatasetError, match=f"dataset {said}; "):
        READERS[command](dataset, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_a_dataset_may_be_named_by_a_path_and_is_opened_once(tmp_path: Path):
    build(str(tmp_path), [1])
    dataset = Dataset.open(tmp_path)
    assert dataset.uri == str(tmp_path)
    assert dataset.name == tmp_path.name
    assert Dataset.open(dataset) is dataset
    assert status(tmp_path) == status(str(tmp_path)) == status(dataset)


def test_units_that_are_committed_later_are_not_in_an_open_dataset(tmp_path: Path):
    units = build(str(tmp_path), [1, 1, 1], clips_per_unit=1, pending=1)
    dataset = Dataset.open(tmp_path)
    commit(str(tmp_path), units[-1], {units[-1].clips[0].clip_id: 1})
    assert dataset.scan().count_rows() == 2
    assert status(dataset).pending == 1
    assert Dataset.open(tmp_path).scan().count_rows() == 3


def test_two_datasets_of_one_run_are_refused(tmp_path: Path):
    build(str(tmp_path / "a"), [1])
    build(str(tmp_path / "b"), [1])
    with pytest.raises(DatasetError, match=r"/a and .*/b are the dataset of the same run; name one of them"):
        open_datasets([tmp_path / "a", tmp_path / "b"])


def test_only_units_are_committed(tmp_path: Path):
    units = build(str(tmp_path), [1, 1], clips_per_unit=1)
    (tmp_path / "data" / "notes.txt").write_text("mine")
    (tmp_path / "data" / "older").mkdir()
    (tmp_path / "data" / "older" / f"{units[0].unit_id}.parquet").write_bytes(b"x")
    committed = Dataset.open(tmp_path).committed
    assert committed == {
        unit.unit_id: (tmp_path / "data" / f"{unit.unit_id}.parquet").stat().st_size for unit in units
    }


def test_datasets_without_rows_are_named_with_what_is_left_to_do(tmp_path: Path):
    build(str(tmp_path / "a"), [DropReason.STATIC])
    build(str(tmp_path / "b"), [DropReason.STATIC, 1], clips_per_unit=1, pending=1)
    names = [Dataset.open(tmp_path / name) for name in "ab"]
    assert f"{names[0]} has no triplets: all clips were dropped" in str(no_triplets(names[:1]))
    assert f"{names[0]}, {names[1]} have no triplets yet" in str(no_triplets(names))


def test_a_unit_that_lacks_columns_is_named(tmp_path: Path):
    (unit,) = build(str(tmp_path), [1])
    path = tmp_path / "data" / f"{unit.unit_id}.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["source", "video"]), path)
    with pytest.raises(DatasetError, match=rf"{unit.unit_id}.parquet cannot be used: it lacks video, source"):
        Dataset.open(tmp_path).read_unit(unit.unit_id)


@pytest.mark.parametrize(
    "read", [lambda one, unit: one.read_unit(unit), lambda one, unit: one.scan().to_table()]
)
def test_a_bit_that_flipped_is_an_error_that_names_the_dataset(
    tmp_path: Path, read: Callable[[Dataset, str], object]
):
    (unit,) = build(str(tmp_path), [1])
    flip_a_bit(str(tmp_path))
    with pytest.raises(DatasetError, match=f"{tmp_path} cannot be read"):
        read(Dataset.open(tmp_path), unit.unit_id)


def test_a_column_whose_name_is_not_utf8_is_an_error_in_words(tmp_path: Path):
    (unit,) = build(str(tmp_path), [1])
    path = tmp_path / "data" / f"{unit.unit_id}.parquet"
    pq.write_table(pq.read_table(path).append_column("zzz", [[1]]), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"zzz", b"\xff\xff\xff"))
    for read in (Dataset.scan, lambda dataset: dataset.read_unit(unit.unit_id)):
        with pytest.raises(DatasetError, match="cannot be read"):
            read(Dataset.open(tmp_path))
