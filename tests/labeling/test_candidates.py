from collections import Counter
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer

import kinescribe
from kinescribe.labeling.agreement import Agreement, exactly
from kinescribe.labeling.candidates import Candidates
from kinescribe.labeling.curate import curate
from kinescribe.schemas.config import CurateConfig
from kinescribe.schemas.errors import ConfigError, DatasetError
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.selection import read_selection
from tests.labeling.test_agreement import labelled
from tests.tiny_dataset import build

ACTIONS = ["lift the cup", "push the box", "turn left", "open the door"]
OTHERS = ["Lift the cup.", "push the red box", "zoom in"]


@pytest.fixture(name="datasets")
def two_datasets(tmp_path: Path) -> tuple[Dataset, Dataset]:
    """Of the same clip by two models, one of which left out the last pair."""
    return labelled(tmp_path / "one", ACTIONS), labelled(tmp_path / "two", OTHERS, "two")


def test_rows_of_which_the_other_says_the_same_pass(datasets: tuple[Dataset, Dataset]):
    dataset, other = datasets
    agreement = Agreement(other, "exact", exactly)
    candidates = Candidates({"a": dataset}, CurateConfig(top_k=4), agreement=agreement)
    counts = Counter[str]()
    (part,) = candidates.parts(counts, lambda done, total: None, ["action"])
    assert part["action"].to_list() == ACTIONS[:1]
    assert counts == {"seen": 4, "agreement": 3}


def test_a_share_of_the_words_may_do_and_be_the_score(datasets: tuple[Dataset, Dataset], tmp_path: Path):
    dataset, other = datasets
    scorer = RougeScorer(["rougeL"])
    known = [
        scorer.score(theirs, ours)["rougeL"].fmeasure for ours, theirs in zip(ACTIONS, OTHERS, strict=False)
    ]
    out = tmp_path / "all.parquet"
    kinescribe.curate(dataset.uri, out, top_k=4, score="agreement", agree=other.uri, agree_by="rouge")
    rows = read_selection(str(out)).rows
    assert rows["score"].to_pylist() == pytest.approx(sorted(known, reverse=True))
    assert len(rows) == 3  # the pair that the other left out is not among them
    out = tmp_path / "some.parquet"
    curated = kinescribe.curate(
        dataset.uri, out, top_k=4, min_agreement=0.5, agree=other.uri, agree_by="rouge"
    )
    assert curated.dropped == {"agreement": 2}


def test_a_selection_records_with_what_it_agrees(datasets: tuple[Dataset, Dataset], tmp_path: Path):
    dataset, other = datasets
    out, agreement = str(tmp_path / "a.parquet"), Agreement(other, "exact", exactly)
    curate([dataset], out, CurateConfig(top_k=1), agreement=agreement)
    curate([dataset], out, CurateConfig(top_k=1), agreement=agreement)
    assert read_selection(out).options["agree"] == {"dataset": other.fingerprint, "by": "exact"}
    with pytest.raises(DatasetError, match="exists and is not this selection"):
        curate([dataset], out, CurateConfig(top_k=1))


@pytest.mark.parametrize("options", [{"score": "agreement"}, {"min_agreement": 0.5}])
def test_agreement_needs_a_second_dataset(
    datasets: tuple[Dataset, Dataset], tmp_path: Path, options: dict[str, object]
):
    with pytest.raises(ConfigError, match="name it with --agree"):
        kinescribe.curate(datasets[0].uri, tmp_path / "a.parquet", top_k=1, **options)


def test_a_dataset_does_not_agree_with_itself(datasets: tuple[Dataset, Dataset], tmp_path: Path):
    dataset, _ = datasets
    with pytest.raises(ConfigError, match="is one of the datasets that are chosen from"):
        kinescribe.curate(dataset.uri, tmp_path / "a.parquet", top_k=1, agree=dataset.uri)


def test_clips_of_other_footage_agree_on_nothing(datasets: tuple[Dataset, Dataset], tmp_path: Path):
    dataset, _ = datasets
    build(str(tmp_path / "strange"), [2])
    with pytest.raises(DatasetError, match="agreement dropped 4"):
        kinescribe.curate(dataset.uri, tmp_path / "a.parquet", top_k=1, agree=tmp_path / "strange")
