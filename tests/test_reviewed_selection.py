"""Curating by what raters say, on a dataset whose scores say how often they are right."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kinescribe.labeling.curate import Curated, curate
from kinescribe.labeling.units import plan_units
from kinescribe.schemas.clips import Clip, stable_id
from kinescribe.schemas.config import CurateConfig
from kinescribe.schemas.errors import ConfigError, DatasetError, InputError
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind
from kinescribe.storage.selection import read_selection
from kinescribe.storage.shards import write_unit
from tests.reviews import KEEP, REJECT, correct, review
from tests.tiny_dataset import SCHEMA, build, outcome, row, run_of

NUM = 200


@pytest.fixture(scope="module", name="dataset")
def dataset_of_scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with the scores 0, −0.01, −0.02 and so on."""
    folder = tmp_path_factory.mktemp("scores") / "dataset"
    clips = [Clip(stable_id(place), f"/{place}.mp4", "jump") for place in range(NUM)]
    run = run_of(clips)
    units = plan_units(clips, 50, run.fingerprint)
    bind(str(folder), run)
    write_plan(str(folder), units)
    places = {clip.clip_id: place for place, clip in enumerate(clips)}
    for unit in units:
        rows = [row(clip, 0) | {"action_logprob": -0.02 * places[clip.clip_id]} for clip in unit.clips]
        write_unit(
            str(folder), unit, pa.Table.from_pylist(rows, SCHEMA), [outcome(clip, 1) for clip in unit.clips]
        )
    return folder


def likeliest(dataset: Path) -> list[str]:
    """The ids of the rows, the highest score first."""
    table = Dataset.open(dataset).scan(["triplet_id", "action_logprob"]).to_table()
    return table.sort_by([("action_logprob", "descending")])["triplet_id"].to_pylist()


def chosen(dataset: Path, tmp_path: Path, *files: str, **config: Any) -> tuple[Curated, list[str]]:
    out = str(tmp_path / f"selection-{len(list(tmp_path.glob('selection-*')))}.parquet")
    settings = CurateConfig(**{"top_k": NUM, **config})
    curated = curate([str(dataset)], out, settings, reviews=files)
    return curated, read_selection(out).rows["triplet_id"].to_pylist()


def test_what_raters_found_wrong_is_not_chosen(tmp_path: Path, dataset: Path):
    ids = likeliest(dataset)
    ratings = {ids[0]: REJECT, ids[1]: correct("a"), ids[2]: KEEP}
    file = review(tmp_path, dataset, ratings)
    curated, rows = chosen(dataset, tmp_path, file)
    assert rows == ids[2:]
    assert curated.dropped == {"review": 2}
    disputed = review(tmp_path, dataset, {ids[2]: REJECT}, "bela")
    assert chosen(dataset, tmp_path, file, disputed)[1] == ids[3:]


def test_the_rest_has_the_precision_that_was_asked_for(tmp_path: Path, dataset: Path):
    """The likelier half of the rows is right, of the others every second."""
    ids = likeliest(dataset)
    ratings = {row: KEEP if place < 100 or place % 2 else REJECT for place, row in enumerate(ids)}
    rated = dict(list(ratings.items())[::3])
    file = review(tmp_path, dataset, rated)
    for wanted in (0.8, 0.9, 1.0):
        curated, rows = chosen(dataset, tmp_path, file, min_precision=wanted)
        right = sum(ratings[row] is KEEP for row in rows) / len(rows)
        assert right == pytest.approx(wanted, abs=0.06)
        assert curated.dropped["min_precision"] + curated.dropped["review"] == NUM - len(rows)
    assert len(chosen(dataset, tmp_path, file, min_precision=0.5)[1]) == NUM - sum(
        rating is REJECT for rating in rated.values()
    )


def test_other_filters_come_first(tmp_path: Path, dataset: Path):
    ids = likeliest(dataset)
    ratings = {row: KEEP if place < 100 else REJECT for place, row in enumerate(ids)}
    file = review(tmp_path, dataset, dict(list(ratings.items())[::5]))
    # Of the rows from −1.2 on 100 of 121 are right, and of all rows half.
    curated, rows = chosen(dataset, tmp_path, file, min_precision=0.7, min_score=-1.205)
    assert "min_precision" in curated.dropped
    assert len(rows) > len(chosen(dataset, tmp_path, file, min_precision=0.99)[1])


def test_the_selection_records_what_was_said(tmp_path: Path, dataset: Path):
    ids = likeliest(dataset)
    file = review(tmp_path, dataset, {ids[0]: REJECT})
    out, config = str(tmp_path / "selection.parquet"), CurateConfig(top_k=5)
    curate([str(dataset)], out, config, reviews=[file])
    curate([str(dataset)], out, config, reviews=[file])
    with pytest.raises(DatasetError, match="exists and is not this selection"):
        curate([str(dataset)], out, config, reviews=[review(tmp_path, dataset, {ids[1]: REJECT})])
    with pytest.raises(DatasetError, match="exists and is not this selection"):
        curate([str(dataset)], out, config)


def test_a_selection_without_a_review_is_as_before(tmp_path: Path, dataset: Path):
    out = str(tmp_path / "selection.parquet")
    curate([str(dataset)], out, CurateConfig(top_k=5))
    assert not {"review", "min_precision"} & read_selection(out).options.keys()


def test_a_precision_needs_ratings_and_enough_of_them(tmp_path: Path, dataset: Path):
    with pytest.raises(ConfigError, match="min_precision needs reviews"):
        chosen(dataset, tmp_path, min_precision=0.9)
    file = review(tmp_path, dataset, [KEEP] * 19)
    with pytest.raises(InputError, match="19 rated rows"):
        chosen(dataset, tmp_path, file, min_precision=0.9)
    file = review(tmp_path, dataset, [REJECT, KEEP] * 10)
    with pytest.raises(DatasetError, match="even the best rows"):
        chosen(dataset, tmp_path, file, min_precision=0.99)
    assert not list(tmp_path.glob("selection*"))


def test_a_review_of_another_dataset_is_refused(tmp_path: Path, dataset: Path):
    build(str(tmp_path / "other"), [1])
    file = review(tmp_path, tmp_path / "other", [KEEP])
    with pytest.raises(InputError, match="none of the datasets is; name the dataset"):
        chosen(dataset, tmp_path, file)
