import json
from pathlib import Path

import pytest
from scipy.stats import spearmanr, wilcoxon

from kinescribe.evaluation.human_study import CRITERIA, Choice, Key
from kinescribe.evaluation.human_study_scores import score_study
from kinescribe.evaluation.label_accuracy import Rate
from kinescribe.schemas.errors import InputError

MODELS = ["ours", "theirs", "copy", "codec"]
NUM_QUESTIONS = 8


def key(judge: dict[str, float] | None = None) -> Key:
    questions = {
        f"q{number}": {
            f"q{number}-{model}": Choice(model=model, judge=(judge or {}).get(model)) for model in MODELS
        }
        for number in range(NUM_QUESTIONS)
    }
    return Key(study="s", models=MODELS, questions=questions)


def export(
    file: Path,
    best: list[str],
    worst: list[str],
    criteria: tuple[str, ...] = tuple(CRITERIA),
    **other: object,
) -> Path:
    """A rater who chose these models for questions 0, 1, …"""
    answers = {
        f"q{number}": {name: {"best": f"q{number}-{good}", "worst": f"q{number}-{bad}"} for name in criteria}
        for number, (good, bad) in enumerate(zip(best, worst, strict=True))
    }
    file.write_text(json.dumps({"study": "s", "rater": file.stem, "answers": answers} | other))
    return file


def test_scores_wins_and_tests_are_those_counted_by_hand(tmp_path: Path):
    best = ["ours"] * 6 + ["theirs"] * 2
    worst = ["theirs"] * 4 + ["copy"] * 3 + ["ours"]
    scores = score_study(key(), [export(tmp_path / "a.json", best, worst)]).criteria["action"]
    assert {model: mean.mean for model, mean in scores.scores.items()} == {
        "ours": 5 / 8,
        "theirs": -2 / 8,
        "copy": -3 / 8,
        "codec": 0,
    }
    first, second, *_, last = scores.comparisons
    assert (first.first, first.second, first.wins, first.ties) == ("ours", "theirs", Rate(6, 8), 0)
    assert first.p_value == wilcoxon([2, 2, 2, 2, 1, 1, -1, -2]).pvalue
    assert (second.wins, second.ties) == (Rate(7, 8), 0)
    assert (last.first, last.second, last.wins, last.ties) == ("copy", "codec", Rate(0, 3), 5)


def test_raters_of_one_question_are_no_more_questions(tmp_path: Path):
    choices = ["ours"] * 4, ["copy"] * 4
    single = score_study(key(), [export(tmp_path / "a.json", *choices)])
    three = score_study(key(), [export(tmp_path / f"{name}.json", *choices) for name in "abc"])
    assert (three.raters, three.questions) == (3, 4)
    of_one, of_three = single.criteria["all"], three.criteria["all"]
    assert of_one.scores == of_three.scores
    assert [pair.p_value for pair in of_one.comparisons] == [pair.p_value for pair in of_three.comparisons]
    assert of_three.comparisons[0].wins == Rate(12, 12)


def test_models_that_no_question_tells_apart_have_no_difference(tmp_path: Path):
    file = export(tmp_path / "a.json", ["ours", "theirs"], ["theirs", "ours"])
    other = export(tmp_path / "b.json", ["theirs", "ours"], ["ours", "theirs"])
    comparison = score_study(key(), [file, other]).criteria["all"].comparisons[0]
    assert (comparison.wins, comparison.p_value) == (Rate(2, 4), 1.0)


def test_agreement_is_over_every_output_that_the_judge_scored(tmp_path: Path):
    file = export(tmp_path / "a.json", ["ours", "ours"], ["copy", "theirs"])
    agreement = (
        score_study(key({"ours": 8.0, "theirs": 5.0, "copy": 0.0, "codec": 4.0}), [file])
        .criteria["realism"]
        .judge
    )
    assert agreement is not None
    assert agreement.num == 8
    assert agreement.rho == pytest.approx(
        spearmanr([1, 0, -1, 0, 1, -1, 0, 0], [8, 5, 0, 4, 8, 5, 0, 4]).statistic
    )


@pytest.mark.parametrize("judge", [None, dict.fromkeys(MODELS, 4.0)])
def test_without_a_judge_that_ranks_there_is_no_agreement(judge: dict[str, float] | None, tmp_path: Path):
    file = export(tmp_path / "a.json", ["ours"], ["copy"])
    assert score_study(key(judge), [file]).criteria["all"].judge is None


def test_what_is_half_answered_is_counted_apart(tmp_path: Path):
    half = {"q0": {"realism": {"best": "q0-ours"}, "action": {"best": "q0-ours", "worst": "q0-copy"}}}
    scores = score_study(key(), [export(tmp_path / "a.json", [], [], answers=half)])
    assert scores.unfinished == 1
    assert list(scores.criteria) == ["action"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"study": "another"}, "is of study another"),
        ({"answers": []}, "is not an export"),
        ({"answers": {}}, "no export has a finished answer"),
        ({"answers": {"q9": {}}}, "invalid answer to q9"),
        ({"answers": {"q9": {"action": {}}}}, "invalid answer to q9"),
        ({"answers": {"q0": {"action": {"best": "", "worst": ""}}}}, "invalid answer to q0"),
        ({"answers": {"q0": {"action": {"best": ["q0-ours"], "worst": 1}}}}, "is not an export"),
        ({"rater": {"toString": 1}}, "is not an export"),
        ({"answers": {"q9": {"action": {"best": "q9-ours", "worst": "q9-copy"}}}}, "invalid answer to q9"),
        ({"answers": {"q0": {"taste": {"best": "q0-ours", "worst": "q0-copy"}}}}, "invalid answer to q0"),
        ({"answers": {"q0": {"action": {"best": "q0-ours", "worst": "q0-ours"}}}}, "invalid answer to q0"),
        ({"answers": {"q0": {"action": {"best": "q0-ours", "tie": True}}}}, "invalid answer to q0"),
    ],
)
def test_what_is_no_export_of_the_study_is_refused(other: dict[str, object], message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        score_study(key(), [export(tmp_path / "a.json", ["ours"], ["copy"], **other)])


def test_a_rater_counts_once(tmp_path: Path):
    files = [export(tmp_path / name, ["ours"], ["copy"], rater="Ann") for name in ("a.json", "b.json")]
    with pytest.raises(InputError, match="another export of rater 'Ann'"):
        score_study(key(), files)
