import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from kinescribe.display import print_result, printable, shorten
from kinescribe.evaluation.label_accuracy import LabelScores, Prediction, Rate, score
from kinescribe.evaluation.preference import Preferences
from kinescribe.evaluation.world import BestOfN, Mean, Score, WorldScores
from kinescribe.simulation.actions import Action, parse


@dataclass
class Finding:
    whole: bool
    clips: int
    reasons: dict[str, int]
    problems: list[str]


FINDING = Finding(False, 12_345, {"static": 7}, ["data/u0.parquet is damaged"])

BY_ACTION = dict.fromkeys(("all", "move"), Score(5.0, 6.0, Mean(4.0, 0.5, 9), 0.1))
WORLD = WorldScores(dict.fromkeys(("model", "copy", "codec"), BY_ACTION))


def test_a_result_as_json_is_the_dataclass(capsys: pytest.CaptureFixture[str]):
    print_result(FINDING, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "whole": False,
        "clips": 12_345,
        "reasons": {"static": 7},
        "problems": ["data/u0.parquet is damaged"],
    }


def test_a_result_for_people_has_a_line_for_each_value(capsys: pytest.CaptureFixture[str]):
    print_result(FINDING, as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["whole", "no"] in lines
    assert ["clips", "12,345"] in lines
    assert ["static", "7"] in lines
    assert ["data/u0.parquet", "is", "damaged"] in lines


def test_an_empty_list_is_not_shown(capsys: pytest.CaptureFixture[str]):
    print_result(Finding(True, 1, {}, []), as_json=False)
    assert "problems" not in capsys.readouterr().out


def test_what_libraries_and_children_print_goes_to_stderr():
    script = (
        "import os\n"
        "from kinescribe.display import stdout_for_results\n"
        "with stdout_for_results():\n"
        "    print('library')\n"
        "    os.system('echo child')\n"
        "print('result')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout == "result\n"
    assert set(done.stderr.split()) == {"library", "child"}


def labels() -> LabelScores:
    """Two of three right; the one that is wrong takes a move for a tilt."""
    truth = parse("move the red ball left")
    assert isinstance(truth, Action)
    said = ("move the red ball left", "move the red ball left", "tilt up")
    return score([Prediction(truth, text, -0.1 * index) for index, text in enumerate(said)])


def test_scores_for_people_give_shares_counts_and_mistakes(capsys: pytest.CaptureFixture[str]):
    print_result(labels(), as_json=False, extra={"shown": {"one action": 3, "mixed": 1}})
    shown = " ".join(capsys.readouterr().out.split())
    assert "exact 0.667 2 of 3" in shown
    assert "move taken for tilt 1" in shown
    assert "mixed 1" in shown
    assert "zoom" not in shown


def test_a_world_models_table_has_copy_and_codec_below_it(capsys: pytest.CaptureFixture[str]):
    print_result(WORLD, as_json=False)
    heading, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert heading == ["action", "cases", "of", "editing", "minimal", "judge", "L1"]
    assert [row[:3] for row in rows[:3]] == [["all", "9", name] for name in ("model", "copy", "codec")]
    assert rows[3] == ["move", "9", "model", "5.00", "6.00", "4.00", "0.100"]


def test_a_world_models_json_is_by_row_and_action(capsys: pytest.CaptureFixture[str]):
    print_result(WORLD, as_json=True)
    shown = json.loads(capsys.readouterr().out)["scores"]["copy"]["move"]
    assert shown["judge"] == {"mean": 4.0, "standard_error": 0.5, "num": 9}


def test_best_of_n_has_a_line_for_each_n(capsys: pytest.CaptureFixture[str]):
    result = BestOfN({"verified": {1: Mean(3.0, 0.25, 9), 8: Mean(4.0, None, 1)}})
    print_result(result, as_json=False)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == ["judge, verified best of:", "1 3.00 ± 0.25 of 9 cases", "8 4.00 of 1 cases"]
    print_result(result, as_json=True)
    assert json.loads(capsys.readouterr().out)["judge"]["verified"]["8"]["mean"] == 4.0


def test_preferences_are_shares_and_a_way_without_cases_is_left_out(capsys: pytest.CaptureFixture[str]):
    result = Preferences("world", 4, {"swapped": Rate(3, 4), "random action": Rate(0, 0)})
    print_result(result, as_json=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert "found likelier (world) than with: swapped 0.750 3 of 4" in shown
    assert "random action" not in shown
    print_result(result, as_json=True)
    assert json.loads(capsys.readouterr().out)["likelier"]["swapped"] == {"hits": 3, "total": 4}


def test_scores_as_json_are_hits_and_totals(capsys: pytest.CaptureFixture[str]):
    print_result(labels(), as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert result["exact"] == {"hits": 2, "total": 3}
    assert result["confusion"] == {"move": {"move": 2, "tilt": 1}}


def test_hostile_text_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]):
    hostile = "\x1b]0;owned\x07\x1b[2J\r\nok: yes\u202e\u2028\x9b31m\udce9"
    print_result(Finding(False, 1, {hostile: 1}, [hostile]), as_json=False)
    print_result(Finding(False, 1, {hostile: 1}, [hostile]), as_json=True)
    shown = capsys.readouterr().out
    assert all(one.isprintable() for one in shown.replace("\n", ""))
    assert "\\x1b]0;owned\\x07" in shown
    assert "ok: yes" not in [line.strip() for line in shown.splitlines()]


def test_text_of_any_language_is_shown_as_it_is():
    assert printable("動画 ünï ☃ a\\b.mp4") == "動画 ünï ☃ a\\b.mp4"


def test_a_very_long_line_is_shown_without_its_middle():
    assert shorten("x" * 4000) == "x" * 4000
    shown = shorten("a" + "x" * 4000 + "b")
    assert shown.startswith("axx")
    assert shown.endswith("xxb")
    assert len(shown) < 4010
