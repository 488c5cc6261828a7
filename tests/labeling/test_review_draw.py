from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from kinescribe.labeling import scores
from kinescribe.labeling.review_draw import draw_rows
from kinescribe.labeling.units import plan_units
from kinescribe.schemas.clips import Clip, stable_id
from kinescribe.schemas.config import Draw
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import DropReason
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind
from kinescribe.storage.shards import write_unit
from tests.tiny_dataset import SCHEMA, build, outcome, row, run_of

CLASSES = {"jump": 40, "run": 10, "fall": 2, None: 8}


def likelihood(place: int) -> dict[str, float]:
    num_tokens = 1 + place % 5
    return {"action_logprob": -0.1 * place * num_tokens, "action_tokens": num_tokens}


@pytest.fixture(scope="module", name="dataset")
def dataset_of_classes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Sixty clips with a row each, in units of seven, whose likelihood per token falls from clip to clip."""
    folder = str(tmp_path_factory.mktemp("classes") / "dataset")
    classes = [name for name, num in CLASSES.items() for _ in range(num)]
    clips = [Clip(stable_id(place), f"/videos/{place}.mp4", name) for place, name in enumerate(classes)]
    run = run_of(clips)
    units = plan_units(clips, 7, run.fingerprint)
    bind(folder, run)
    write_plan(folder, units)
    places = {clip.clip_id: place for place, clip in enumerate(clips)}
    for unit in units:
        rows = [row(clip, 0) | likelihood(places[clip.clip_id]) for clip in unit.clips]
        write_unit(folder, unit, pa.Table.from_pylist(rows, SCHEMA), [outcome(c, 1) for c in unit.clips])
    return Dataset.open(folder)


def drawn(dataset: Dataset, num: int, draw: Draw = "random", seed: int = 0) -> pl.DataFrame:
    return draw_rows(dataset, num, draw, seed, lambda done, total: None)


def classes_of(dataset: Dataset, rows: pl.DataFrame) -> Counter[str | None]:
    table = dataset.scan(["triplet_id", "action_class"]).to_table().to_pydict()
    known = dict(zip(table["triplet_id"], table["action_class"], strict=True))
    return Counter(known[triplet_id] for triplet_id in rows["triplet_id"])


def test_a_seed_draws_the_same_rows_in_the_same_order(dataset: Dataset):
    assert drawn(dataset, 20).equals(drawn(dataset, 20))
    assert set(drawn(dataset, 20)["triplet_id"]) != set(drawn(dataset, 20, seed=1)["triplet_id"])
    orders = [drawn(dataset, 60, seed=seed)["triplet_id"].to_list() for seed in (0, 1)]
    assert len({tuple(order) for order in [*orders, sorted(orders[0])]}) == 3


def test_each_row_of_each_part_is_drawn_once_with_its_unit(dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scores, "ROWS_PER_PART", 7)
    rows = drawn(dataset, 1000)
    assert len(rows) == rows["triplet_id"].n_unique() == 60
    table = dataset.read_unit(Path(rows["object"][0]).stem)
    assert rows["triplet_id"][0] in table["triplet_id"].to_pylist()
    assert rows["clip_id"][0] in table["clip_id"].to_pylist()


def test_random_rows_are_of_each_class_by_its_size(dataset: Dataset):
    counts: Counter[str | None] = Counter()
    for seed in range(100):
        counts += classes_of(dataset, drawn(dataset, 12, seed=seed))
    for name, size in CLASSES.items():
        assert abs(counts[name] / 1200 - size / 60) < 0.04


def test_stratified_rows_are_as_many_of_each_class_as_it_has(dataset: Dataset):
    counts = classes_of(dataset, drawn(dataset, 26, "stratified"))
    assert counts == {"jump": 8, "run": 8, "fall": 2, None: 8}


def test_doubtful_rows_are_the_least_likely_in_random_order(dataset: Dataset):
    rows = drawn(dataset, 10, "doubtful")
    table = dataset.scan(["triplet_id", *likelihood(0)]).to_table().to_pydict()
    means = np.divide(table["action_logprob"], table["action_tokens"])
    score = dict(zip(table["triplet_id"], means, strict=True))
    lowest = [score[triplet_id] for triplet_id in rows["triplet_id"]]
    assert sorted(lowest) == sorted(means)[:10]
    assert lowest != sorted(lowest)


def test_a_dataset_without_rows_or_likelihoods_is_refused(tmp_path: Path):
    build(str(tmp_path / "none"), [DropReason.STATIC])
    with pytest.raises(DatasetError, match="no triplets"):
        drawn(Dataset.open(tmp_path / "none"), 5)
    clip = Clip(stable_id("a"), "/a.mp4")
    run = run_of([clip])
    (unit,) = plan_units([clip], 1, run.fingerprint)
    bind(str(tmp_path / "given"), run)
    write_plan(str(tmp_path / "given"), [unit])
    rows = [row(clip, 0) | {"action_logprob": None}]
    write_unit(str(tmp_path / "given"), unit, pa.Table.from_pylist(rows, SCHEMA), [outcome(clip, 1)])
    with pytest.raises(DatasetError, match=r"no likelihoods, .* draw at random"):
        drawn(Dataset.open(tmp_path / "given"), 5, "doubtful")
    assert len(drawn(Dataset.open(tmp_path / "given"), 5)) == 1
