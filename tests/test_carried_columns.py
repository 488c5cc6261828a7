"""Columns of the user's manifest, from the manifest to the dataset and what is made of it."""

import json
import pickle
from datetime import datetime
from pathlib import Path

import datasets
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinescribe.labeling.curate import curate
from kinescribe.labeling.inputs import clip_frames
from kinescribe.labeling.materialize import write_chosen
from kinescribe.labeling.retries import retry_units
from kinescribe.labeling.units import plan_units, unit_ids, units_of
from kinescribe.schemas.clips import WorkUnit
from kinescribe.schemas.config import CurateConfig, LabelConfig, Limits
from kinescribe.storage.audit import check
from kinescribe.storage.card import write_card
from kinescribe.storage.clips import StoredClips
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.export import export_hub, export_webdataset
from kinescribe.storage.plan import write_plan, write_plan_tables
from kinescribe.storage.run import Run, bind
from kinescribe.storage.shards import write_unit
from tests.tiny_dataset import GRID, outcome, row, table

NAMES = ("robot", "take", "at", "pose")
VALUES = pl.DataFrame(
    {
        "robot": ["left", None, "right", "left"],
        "take": pl.Series([1, 2, None, 4], dtype=pl.Int16),
        "at": [datetime(2026, 1, day, 12) for day in (1, 2, 3, 4)],
        "pose": pl.Series([[0.5], [], [1.0, 2.0], None], dtype=pl.List(pl.Float32)),
    }
)
TYPES = [pa.string(), pa.int16(), pa.timestamp("us"), pa.list_(pa.float32())]


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    uris = pl.Series("uri", [f"{name}.mp4" for name in "abcd"])
    uris.to_frame().hstack(VALUES).write_parquet(tmp_path / "m.parquet")
    return str(tmp_path / "m.parquet")


def begin(manifest: str, out: str) -> tuple[Run, StoredClips, list[WorkUnit]]:
    """Bind a dataset to a run with carried columns, and plan it in units of three clips."""
    clips = StoredClips(clip_frames(manifest, Limits(), columns=NAMES))
    config = LabelConfig(columns=NAMES).model_dump(mode="json")
    run = Run("0", config, {"dynamics": "weights"}, "codec-of-tests", GRID, clips.digest)
    bind(out, run)
    ids = unit_ids(clips.ids(), 3, run.fingerprint)
    write_plan_tables(out, clips.planned(ids, 3))
    return run, clips, list(clips.with_columns(units_of(clips, ids, 3)))


def commit(out: str, unit: WorkUnit) -> None:
    """The unit as the pool's processes hand it on, with two triplets of each clip."""
    unit = pickle.loads(pickle.dumps(unit))
    rows = [row(clip, index) for clip in unit.clips for index in range(2)]
    assert write_unit(out, unit, table(rows), [outcome(clip, 2) for clip in unit.clips])


@pytest.fixture
def dataset(manifest: str, tmp_path: Path) -> str:
    out = str(tmp_path / "dataset")
    for unit in begin(manifest, out)[2]:
        commit(out, unit)
    write_card(out)
    return out


def carried(rows: pa.Table) -> dict[str, tuple]:
    """The carried values by video."""
    return {item["video"][-5:]: tuple(item[name] for name in NAMES) for item in rows.to_pylist()}


EXPECTED = {f"{name}.mp4": values for name, values in zip("abcd", VALUES.rows(), strict=True)}


def test_rows_have_the_values_of_their_clip_in_the_manifests_types(dataset: str):
    rows = Dataset.open(dataset).scan().to_table()
    assert carried(rows) == EXPECTED
    assert [rows.schema.field(name).type for name in NAMES] == TYPES
    assert len(rows) == 8
    assert check(dataset).problems == []


def test_a_changed_value_in_the_plan_is_noticed(dataset: str):
    path = Path(dataset, "plan", "clips.parquet")
    plan = pq.read_table(path)
    changed = pa.array(["left", "left", "right", "left"])
    pq.write_table(plan.set_column(plan.schema.get_field_index("robot"), "robot", changed), path)
    assert "is not the plan that run.json names" in check(dataset).problems[0]


def test_clips_of_a_retry_keep_their_columns(manifest: str, tmp_path: Path):
    out = str(tmp_path / "dataset")
    run, clips, _ = begin(manifest, out)
    chosen = [clip for clip in clips if clip.uri.endswith(("b.mp4", "d.mp4"))]
    write_plan(out, plan_units(chosen, 3, f"{run.fingerprint}/1"), retry=1)
    (unit,) = retry_units(out, run, clips)
    assert unit.columns["take"].to_pylist() == [2, 4]


def test_a_unit_is_sent_without_the_values_of_others(tmp_path: Path):
    frame = pl.DataFrame({"uri": [f"{index}.mp4" for index in range(1000)], "note": ["x" * 1000] * 1000})
    frame.write_parquet(tmp_path / "m.parquet")
    clips = StoredClips(clip_frames(str(tmp_path / "m.parquet"), Limits(), columns=["note"]))
    unit, *_ = clips.with_columns(units_of(clips, [str(index) for index in range(500)], 2))
    assert len(pickle.dumps(unit)) < 10_000


def test_they_survive_curate_and_materialize(dataset: str, tmp_path: Path):
    selection, out = str(tmp_path / "selection.parquet"), str(tmp_path / "chosen")
    curate([dataset], selection, CurateConfig(top_k=4))
    write_chosen([dataset], selection, out)
    assert check(out).problems == []
    chosen = Dataset.open(out)
    rows = chosen.scan().to_table()
    assert carried(rows).items() <= EXPECTED.items()
    assert [rows.schema.field(name).type for name in NAMES] == TYPES
    assert chosen.run["identity"]["config.columns"] == list(NAMES)


def test_they_survive_export_and_load_dataset(dataset: str, tmp_path: Path):
    export_hub(dataset, str(tmp_path / "hub"), None, lambda done, total: None)
    export_webdataset(dataset, str(tmp_path / "web"), None, lambda done, total: None)
    for folder in (dataset, str(tmp_path / "hub")):
        loaded = datasets.load_dataset(folder, split="train", cache_dir=str(tmp_path / "cache"))
        assert isinstance(loaded.features["source"], datasets.Image)
        assert sorted(map(str, loaded["robot"])) == ["None"] * 2 + ["left"] * 4 + ["right"] * 2
    samples = datasets.load_dataset(
        "webdataset", data_files=f"{tmp_path}/web/*.tar", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert sorted({item["json"]["take"] or 0 for item in samples}) == [0, 1, 2, 4]


def test_a_run_without_carried_columns_has_the_identity_of_older_versions():
    config = LabelConfig().model_dump(mode="json")
    run = Run("0", config, {}, "codec", GRID, "plan")
    assert "config.columns" not in run.identity
    config.pop("columns")
    assert Run("0", config, {}, "codec", GRID, "plan").fingerprint == run.fingerprint
    assert json.loads(json.dumps(run.identity)) == run.identity
