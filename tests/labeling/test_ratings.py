import json
from pathlib import Path
from typing import Any

import pytest

from kinescribe.labeling.ratings import Ratings, read_reviews
from kinescribe.schemas.clips import stable_id
from kinescribe.schemas.errors import InputError
from tests.reviews import KEEP, REJECT, correct, review, triplets
from tests.tiny_dataset import build


@pytest.fixture(name="dataset")
def dataset_of_six(tmp_path: Path) -> Path:
    build(str(tmp_path / "dataset"), [3, 3])
    return tmp_path / "dataset"


def ratings_of(*files: str) -> Ratings:
    (ratings,) = read_reviews(files).values()
    return ratings


def test_the_majority_counts_and_a_tie_is_disputed(tmp_path: Path, dataset: Path):
    rows = triplets(dataset)
    files = [
        review(tmp_path, dataset, [KEEP, KEEP, REJECT, KEEP, correct("b")], "anna"),
        review(tmp_path, dataset, [KEEP, REJECT, correct("a"), REJECT, correct("b")], "bela"),
        review(tmp_path, dataset, [KEEP, KEEP, correct("a"), KEEP, correct("c")], "cleo"),
        review(tmp_path, dataset, [REJECT, REJECT], "dana"),
    ]
    ratings = ratings_of(*files)
    assert ratings.agreed[rows[0]] == (True, None)
    assert ratings.disputed == [rows[1]]
    assert ratings.agreed[rows[2]] == (False, "a")
    assert ratings.agreed[rows[3]] == (True, None)
    assert ratings.agreed[rows[4]] == (False, "b")
    assert rows[5] not in ratings.agreed
    assert ratings.left_out == sorted([rows[1], rows[2], rows[4]])


def test_words_count_only_if_as_many_correct_as_reject(tmp_path: Path, dataset: Path):
    first = review(tmp_path, dataset, [correct("a"), REJECT], "anna")
    second = review(tmp_path, dataset, [REJECT, REJECT], "bela")
    third = review(tmp_path, dataset, [REJECT, correct("a")], "cleo")
    rows = triplets(dataset)
    assert ratings_of(first, second).agreed[rows[0]] == (False, "a")
    assert ratings_of(first, second, third).agreed[rows[0]] == (False, None)


def test_the_last_export_of_a_rater_counts_whatever_the_order_of_files(tmp_path: Path, dataset: Path):
    early = review(tmp_path, dataset, [KEEP], exported="2026-12-01T10:00:00Z")
    late = review(tmp_path, dataset, [REJECT], exported="2026-12-01T12:00:01+01:00")
    for files in ((early, late), (late, early)):
        ratings = ratings_of(*files)
        assert ratings.left_out == triplets(dataset)[:1]
        assert len(ratings.by_rater["anna"]) == 1


def test_pages_of_one_rater_add_up_and_a_random_draw_wins(tmp_path: Path, dataset: Path):
    rows = triplets(dataset)
    doubtful = review(
        tmp_path, dataset, {rows[0]: REJECT, rows[1]: KEEP}, page=stable_id("b"), draw="doubtful"
    )
    random = review(tmp_path, dataset, {rows[1]: KEEP, rows[2]: KEEP})
    ratings = ratings_of(doubtful, random)
    assert ratings.draws == {rows[0]: "doubtful", rows[1]: "random", rows[2]: "random"}
    assert len(ratings.by_rater["anna"]) == 3


def test_the_digest_is_of_what_is_agreed(tmp_path: Path, dataset: Path):
    one = review(tmp_path, dataset, [KEEP, REJECT])
    same = review(tmp_path, dataset, [KEEP, REJECT], "bela")
    other = review(tmp_path, dataset, [KEEP, correct("a")])
    assert ratings_of(one).digest == ratings_of(same).digest == ratings_of(one, same).digest
    assert ratings_of(one).digest != ratings_of(other).digest


def test_datasets_are_kept_apart(tmp_path: Path, dataset: Path):
    build(str(tmp_path / "other"), [1])
    files = [review(tmp_path, dataset, [KEEP]), review(tmp_path, tmp_path / "other", [REJECT])]
    by_dataset = read_reviews(files)
    assert [len(ratings.agreed) for ratings in by_dataset.values()] == [1, 1]
    assert [ratings.dataset for ratings in by_dataset.values()] == [*by_dataset]


WRONG: dict[str, dict[str, Any]] = {
    "another file": {"ratings": None},
    "an unknown verdict": {"ratings": {stable_id("a"): {"verdict": "maybe"}}},
    "a correction without words": {"ratings": {stable_id("a"): {"verdict": "correct"}}},
    "a correction of blanks": {"ratings": {stable_id("a"): correct(" \n ")}},
    "words of a kept row": {"ratings": {stable_id("a"): KEEP | {"action": "move it"}}},
    "control characters": {"ratings": {stable_id("a"): correct("move\x1b[2J it")}},
    "marks of direction": {"ratings": {stable_id("a"): correct("move \u202eit")}},
    "endless words": {"ratings": {stable_id("a"): correct("x" * 1001)}},
    "an unknown reason": {"ratings": {stable_id("a"): {"verdict": "reject", "reason": "\x1b[2J"}}},
    "an id that is a path": {"ratings": {"../../x": KEEP}},
    "no rater": {"rater": ""},
    "a time without a zone": {"exported": "2026-12-01T10:00:00"},
    "an unknown draw": {"draw": "best"},
    "a dataset that is a path": {"dataset": "/etc"},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_what_no_page_exports_is_refused(tmp_path: Path, dataset: Path, changes: dict[str, Any]):
    file = review(tmp_path, dataset, [KEEP], **changes)
    with pytest.raises(InputError, match=r"is not a review .*name a file that the page of `review build`"):
        read_reviews([file])


def test_a_wrong_value_is_named_by_its_place(tmp_path: Path, dataset: Path):
    row = stable_id("a")
    file = review(tmp_path, dataset, {row: {"verdict": "maybe"}})
    with pytest.raises(InputError, match=rf"is not a review \(ratings\.{row}\.verdict: Input should be"):
        read_reviews([file])


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, "\x00", json.dumps("x")])
def test_what_is_no_review_is_refused(tmp_path: Path, content: str):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"is not a review \((Invalid JSON|Input should be)"):
        read_reviews([str(tmp_path / "a.json")])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"review .*a.json cannot be read: No such file"):
        read_reviews([str(tmp_path / "a.json")])
