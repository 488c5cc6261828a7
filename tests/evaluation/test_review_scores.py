from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from kinescribe.evaluation.review_scores import ReviewScores, score_review
from kinescribe.labeling.ratings import read_reviews
from kinescribe.labeling.units import plan_units
from kinescribe.schemas.clips import Clip, stable_id
from kinescribe.schemas.errors import InputError
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind
from kinescribe.storage.shards import write_unit
from tests.reviews import KEEP, REJECT, correct, review, triplets
from tests.tiny_dataset import SCHEMA, outcome, row, run_of

NUM = 1000
RIGHT_OF = {"jump": 0.9, "run": 0.2}
"""How often rows of a class are right; nine in ten rows are `jump`."""


@pytest.fixture(scope="module", name="dataset")
def dataset_of_a_thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with scores from −1 to 0, of which the first tenth is of class `run`."""
    folder = tmp_path_factory.mktemp("scores") / "dataset"
    clips = [Clip(stable_id(n), f"/{n}.mp4", "run" if n < NUM / 10 else "jump") for n in range(NUM)]
    run = run_of(clips)
    units = plan_units(clips, 500, run.fingerprint)
    bind(str(folder), run)
    write_plan(str(folder), units)
    places = {clip.clip_id: place for place, clip in enumerate(clips)}
    for unit in units:
        rows = [
            row(clip, 0) | {"action_logprob": -2.0 * (places[clip.clip_id] * 7 % NUM) / NUM}
            for clip in unit.clips
        ]
        ends = [outcome(clip, 1) for clip in unit.clips]
        write_unit(str(folder), unit, pa.Table.from_pylist(rows, SCHEMA), ends)
    return folder


def table_of(dataset: Path) -> dict[str, tuple[float, str]]:
    """The score and the class of each row."""
    table = Dataset.open(dataset).scan(["triplet_id", "action_logprob", "action_class"]).to_table()
    return {one["triplet_id"]: (one["action_logprob"] / 2, one["action_class"]) for one in table.to_pylist()}


def scored(dataset: Path, *files: str) -> ReviewScores:
    (ratings,) = read_reviews(files).values()
    return score_review(Dataset.open(dataset), ratings, "mean", lambda done, total: None)


def test_the_precision_of_random_rows_is_that_of_the_dataset(tmp_path: Path, dataset: Path):
    scores = scored(dataset, review(tmp_path, dataset, [KEEP] * 80 + [REJECT] * 15 + [correct("a")] * 5))
    assert scores.precision
    assert (scores.precision.right, scores.precision.rated, scores.precision.share) == (80, 100, 0.8)
    # Wilson's interval, as in the tables of Newcombe (1998): 0.711 to 0.867.
    assert (round(scores.precision.low, 3), round(scores.precision.high, 3)) == (0.711, 0.867)
    assert (scores.rated, scores.corrected, scores.disputed, scores.doubtful) == (100, 5, 0, None)
    assert scores.reasons == {"nothing": 15}


def test_classes_count_by_their_size_if_rows_were_drawn_by_class(tmp_path: Path, dataset: Path):
    rng, ratings = np.random.default_rng(0), dict[str, dict[str, Any]]()
    for name, share in RIGHT_OF.items():
        rows = [triplet_id for triplet_id, (_, of) in table_of(dataset).items() if of == name]
        for triplet_id in rows[:80]:
            ratings[triplet_id] = KEEP if rng.uniform() < share else REJECT
    scores = scored(dataset, review(tmp_path, dataset, ratings, draw="stratified"))
    assert scores.precision
    by_class = {name: part.share for name, part in scores.by_class.items()}
    assert scores.precision.share == pytest.approx(0.9 * by_class["jump"] + 0.1 * by_class["run"])
    assert scores.precision.low < 0.83 < scores.precision.high
    assert scores.precision.right / scores.precision.rated < 0.7


def test_a_class_whose_few_rows_are_all_right_is_not_certain(tmp_path: Path, dataset: Path):
    rows = [triplet_id for triplet_id, (_, of) in table_of(dataset).items() if of == "jump"][:4]
    ratings = dict.fromkeys(rows, KEEP)
    scores = scored(dataset, review(tmp_path, dataset, ratings, draw="stratified"))
    assert scores.precision
    assert scores.precision.share == 1
    assert scores.precision.low < 0.75


def test_doubtful_rows_say_nothing_of_the_dataset(tmp_path: Path, dataset: Path):
    scores = scored(dataset, review(tmp_path, dataset, [REJECT] * 30, draw="doubtful"))
    assert scores.precision is None
    assert scores.doubtful
    assert scores.doubtful.rated == 30
    assert scores.by_class == {}
    assert scores.expected


def test_disputed_rows_count_nowhere(tmp_path: Path, dataset: Path):
    files = [
        review(tmp_path, dataset, [KEEP] * 10, "anna"),
        review(tmp_path, dataset, [KEEP] * 5 + [REJECT] * 5, "bela"),
    ]
    scores = scored(dataset, *files)
    assert (scores.rated, scores.disputed) == (5, 5)
    assert scores.raters == {"anna": 10, "bela": 10}


def test_raters_agree_as_cohens_kappa_says(tmp_path: Path, dataset: Path):
    # They agree on 35 of 50, where chance would give half: κ = (0.7 - 0.5) / (1 - 0.5).
    anna = [KEEP] * 25 + [REJECT] * 25
    bela = [KEEP] * 20 + [REJECT] * 5 + [KEEP] * 10 + [REJECT] * 15
    cleo = [KEEP] * 3
    files = [review(tmp_path, dataset, of, name) for name, of in zip("abc", (anna, bela, cleo), strict=True)]
    pairs = {(pair.first, pair.second): pair for pair in scored(dataset, *files).agreement}
    assert pairs["a", "b"].kappa == pytest.approx(0.4)
    assert pairs["a", "b"].num == 50
    assert pairs["a", "c"].kappa is None
    assert pairs["b", "c"].num == 3


def test_the_expected_precision_of_a_selection_is_found(tmp_path: Path, dataset: Path):
    """A row with score s is right with probability 1 + s."""
    rng, table = np.random.default_rng(1), table_of(dataset)
    ratings = {row: KEEP if rng.uniform() < 1 + table[row][0] else REJECT for row in triplets(dataset)[:600]}
    scores = scored(dataset, review(tmp_path, dataset, ratings))
    expected = {one.top_k: one for one in scores.expected}
    assert sorted(expected) == [10, 20, 50, 100, 200, 300, 500, 700, 900, 1000]
    assert expected[500].min_score == pytest.approx(-0.5, abs=0.01)
    for top_k, truth in ((200, 0.9), (500, 0.75), (1000, 0.5)):
        assert expected[top_k].precision == pytest.approx(truth, abs=0.05)
        assert expected[top_k].low <= expected[top_k].precision <= expected[top_k].high
        assert expected[top_k].high - expected[top_k].low < 0.15
    shares = [tenth.precision.share for tenth in scores.by_decile]
    assert [tenth.tenth for tenth in scores.by_decile] == list(range(1, 11))
    assert shares[0] < 0.25 < 0.75 < shares[9]
    assert sum(tenth.precision.rated for tenth in scores.by_decile) == 600


def test_few_ratings_give_no_curve(tmp_path: Path, dataset: Path):
    assert scored(dataset, review(tmp_path, dataset, [KEEP] * 19)).expected == []


def test_rows_without_scores_have_a_precision(tmp_path: Path):
    clip = Clip(stable_id("a"), "/a.mp4")
    run = run_of([clip])
    (unit,) = plan_units([clip], 1, run.fingerprint)
    bind(str(tmp_path / "given"), run)
    write_plan(str(tmp_path / "given"), [unit])
    rows = [row(clip, place) | {"action_logprob": None} for place in range(30)]
    write_unit(str(tmp_path / "given"), unit, pa.Table.from_pylist(rows, SCHEMA), [outcome(clip, 30)])
    scores = scored(tmp_path / "given", review(tmp_path, tmp_path / "given", [KEEP] * 25))
    assert scores.precision
    assert (scores.precision.rated, scores.by_decile, scores.expected) == (25, [], [])
    assert list(scores.tables())
    scores.draw(Figure())


def test_everything_is_shown(tmp_path: Path, dataset: Path):
    files = [
        review(tmp_path, dataset, [KEEP] * 80 + [REJECT] * 20, "anna"),
        review(tmp_path, dataset, {triplets(dataset)[-1]: KEEP}, page=stable_id("b"), draw="doubtful"),
    ]
    text = "\n".join(" ".join(cells) for table in scored(dataset, *files).tables() for cells in table.rows)
    assert "0.800 (0.711 to 0.867), 80 of 100" in text
    assert "1 of 1" in text
    figure = Figure()
    scored(dataset, *files).draw(figure)
    assert len(figure.axes) == 2


def test_ratings_of_other_rows_are_refused(tmp_path: Path, dataset: Path):
    file = review(tmp_path, dataset, {stable_id("no row"): KEEP})
    with pytest.raises(InputError, match="none of the rated rows is in"):
        scored(dataset, file)


def test_rows_that_are_all_disputed_are_told(tmp_path: Path, dataset: Path):
    files = [review(tmp_path, dataset, [KEEP], "anna"), review(tmp_path, dataset, [REJECT], "bela")]
    with pytest.raises(InputError, match="disagree on all of the 1 rows"):
        scored(dataset, *files)


def test_a_tenth_without_rated_rows_leaves_a_gap(tmp_path: Path, dataset: Path):
    table = table_of(dataset)
    likely = [row for row, (score, _) in table.items() if score > -0.1 or -0.35 < score < -0.3]
    scores = scored(dataset, review(tmp_path, dataset, dict.fromkeys(likely, KEEP)))
    assert [tenth.tenth for tenth in scores.by_decile] == [7, 10]
