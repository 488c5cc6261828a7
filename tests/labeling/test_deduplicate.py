import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinescribe.labeling.curate import curate
from kinescribe.labeling.deduplicate import deduplicate, groups_uri
from kinescribe.labeling.materialize import write_chosen
from kinescribe.schemas.clips import WorkUnit, stable_id
from kinescribe.schemas.config import CurateConfig
from kinescribe.schemas.dataset import HASHES, OPTIONAL, triplet_schema
from kinescribe.schemas.errors import DatasetError
from kinescribe.storage.audit import check
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import plan_digest, write_plan
from kinescribe.storage.run import Run, bind
from kinescribe.storage.selection import read_selection
from kinescribe.storage.shards import write_unit
from tests.tiny_dataset import GRID, build, clip, outcome, row


def hashes(scene: str) -> dict[str, bytes]:
    return {name: hashlib.blake2b(f"{scene} {name}".encode(), digest_size=16).digest() for name in HASHES}


def parts(rows: Sequence[tuple[str, str, float]], at: Sequence[int] = ()) -> list[pl.DataFrame]:
    """Rows of (clip, scene, score), in parts that begin `at` these places."""
    frame = pl.DataFrame(
        [
            {"triplet_id": stable_id(name), "clip_id": name, "score": score, "dataset": "d", **hashes(scene)}
            for name, scene, score in rows
        ]
    ).with_columns(pl.col("dataset").cast(pl.Enum(["d"])))
    places = [0, *at, len(rows)]
    return [frame[start:end] for start, end in pairwise(places)]


def test_the_best_of_each_group_is_kept_and_the_groups_are_listed():
    rows = [("a", "cat", -1.0), ("b", "dog", -5.0), ("c", "cat", -0.5), ("d", "cat", -2.0)]
    found = deduplicate(parts(rows, [2]))
    assert found.is_kept.tolist() == [False, True, True, False]
    assert found.counts == {"groups": 1, "largest": 3}
    assert found.groups.to_pylist() == [
        {"kept": stable_id("c"), "triplet_id": stable_id(name), "dataset": "d", "score": score}
        for name, score in (("c", -0.5), ("a", -1.0), ("d", -2.0))
    ]


def test_of_equal_scores_the_least_id_is_kept():
    found = deduplicate(parts([(name, "cat", -1.0) for name in "abcdef"]))
    assert np.flatnonzero(found.is_kept).tolist() == [min(range(6), key=lambda at: stable_id("abcdef"[at]))]


def test_rows_without_hashes_are_kept():
    part = parts([("a", "cat", -1.0), ("b", "cat", -2.0), ("c", "cat", -3.0)])[0]
    unknown = part.with_columns(
        pl.when(pl.col("clip_id") != "a").then(pl.col("change_hash")).alias("change_hash")
    )
    assert deduplicate([unknown]).is_kept.tolist() == [True, True, False]
    assert deduplicate([]).counts == {"groups": 0, "largest": 0}


def test_the_result_is_a_function_of_the_rows_and_not_of_their_order():
    random = np.random.default_rng(0)
    rows = [(f"clip {at}", f"scene {at % 40}", float(-(at % 3))) for at in range(200)]
    kept = []
    for seed in range(3):
        shuffled = [rows[at] for at in random.permutation(200)]
        found = deduplicate(parts(shuffled, sorted(random.integers(0, 200, seed))))
        kept.append((sorted(np.array(shuffled)[found.is_kept, 0]), found.groups.to_pylist()))
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0][0]) == 40


def dataset(folder: Path, clips: Mapping[str, Mapping[str, Any]]) -> str:
    """A dataset with a unit and a triplet for each clip, with hashes and these columns."""
    plan = [clip(name) for name in clips]
    units = [WorkUnit(item.clip_id, (item,)) for item in plan]
    quality = list(OPTIONAL)
    bind(str(folder), Run("0", {"quality": quality}, {}, "codec-of-tests", GRID, plan_digest(plan)))
    write_plan(str(folder), units)
    schema = triplet_schema("codec-of-tests", GRID, quality)
    for unit, changes in zip(units, clips.values(), strict=True):
        table = pa.Table.from_pylist([row(unit.clips[0], 0) | changes], schema)
        assert write_unit(str(folder), unit, table, [outcome(unit.clips[0], 1)])
    return str(folder)


def test_copies_in_two_datasets_are_chosen_once(tmp_path: Path):
    first = dataset(tmp_path / "first", {"a": hashes("cat") | {"action_logprob": -1.0}, "b": hashes("dog")})
    second = dataset(tmp_path / "second", {"c": hashes("cat") | {"action_logprob": -3.0}})
    out = str(tmp_path / "chosen.parquet")
    result = curate([second, first], out, CurateConfig(top_k=9, duplicates="near"))
    chosen = read_selection(out)
    assert (result.chosen, result.dropped) == (2, {"near_duplicates": 1})
    assert result.duplicates == {"groups": 1, "largest": 2}
    ids = [stable_id(clip(name).clip_id, 0) for name in "abc"]
    assert set(chosen.rows["triplet_id"].to_pylist()) == {*ids[:2]}
    groups = pq.read_table(groups_uri(out))
    assert groups["triplet_id"].to_pylist() == [ids[0], ids[2]]
    assert groups["dataset"].to_pylist() == [
        Dataset.open(first).fingerprint,
        Dataset.open(second).fingerprint,
    ]
    write_chosen([first, second], out, str(tmp_path / "best"))
    assert check(str(tmp_path / "best")).ok
    assert Dataset.open(str(tmp_path / "best")).scan().to_table(["source_hash"]).num_rows == 2


def test_a_dataset_without_hashes_cannot_be_searched_for_copies(tmp_path: Path):
    build(str(tmp_path / "old"), [2])
    with pytest.raises(
        DatasetError, match=r"has no source_hash, target_hash, change_hash.*'hashes' in quality"
    ):
        curate(
            [str(tmp_path / "old")], str(tmp_path / "out.parquet"), CurateConfig(top_k=1, duplicates="near")
        )
    assert not (tmp_path / "out.parquet").exists()


def test_another_file_in_the_place_of_the_groups_is_left_alone(tmp_path: Path):
    name = dataset(tmp_path / "first", {"a": hashes("cat")})
    out = str(tmp_path / "out.parquet")
    Path(groups_uri(out)).write_text("mine")
    with pytest.raises(DatasetError, match="is not a list of duplicates"):
        curate([name], out, CurateConfig(top_k=1, duplicates="near"))
    assert Path(groups_uri(out)).read_text() == "mine"


BOUNDS = {
    "min_sharpness": ("sharpness", 50.0, 20.0),
    "min_brightness": ("brightness", 0.5, 0.1),
    "max_brightness": ("brightness", 0.5, 0.9),
    "max_clipping": ("clipping", 0.1, 0.4),
    "max_bars": ("bars", 0.1, 0.4),
    "max_text": ("text_share", 0.1, 0.4),
    "min_probability": ("action_probability", 0.9, 0.4),
}


@pytest.mark.parametrize("bound", BOUNDS)
def test_each_measure_can_be_filtered_by(tmp_path: Path, bound: str):
    column, good, bad = BOUNDS[bound]
    name = dataset(tmp_path / "d", {"good": {column: good}, "bad": {column: bad}, "unknown": {column: None}})
    limit = (good + bad) / 2
    result = curate([name], str(tmp_path / "out.parquet"), CurateConfig(top_k=9, **{bound: limit}))
    assert result.dropped == {bound: 2}
    assert read_selection(str(tmp_path / "out.parquet")).rows["triplet_id"].to_pylist() == [
        stable_id(clip("good").clip_id, 0)
    ]


@pytest.mark.parametrize(
    ("bound", "column", "remedy"),
    [
        ("max_text", "text_share", "'text' in quality"),
        ("min_probability", "action_probability", r"annotation\.vocabulary"),
    ],
)
def test_a_filter_by_what_was_not_measured_names_the_remedy(
    tmp_path: Path, bound: str, column: str, remedy: str
):
    build(str(tmp_path / "old"), [2])
    message = f"has no {column}, which {bound} needs; label it into another folder with {remedy}"
    with pytest.raises(DatasetError, match=message):
        curate([str(tmp_path / "old")], str(tmp_path / "out.parquet"), CurateConfig(top_k=1, **{bound: 0.1}))
