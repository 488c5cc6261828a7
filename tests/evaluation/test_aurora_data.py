import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kinescribe.evaluation.aurora_data import LeftOut, read_benchmark
from kinescribe.schemas.errors import InputError
from tests.tiny_benchmark import ACTION, SUBSETS, item, write_benchmark


def one_file(folder: Path, *items: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "test.json").write_text(json.dumps(items))
    return folder


def test_a_file_for_each_subset_and_one_for_all_are_the_same_benchmark(tmp_path: Path):
    by_subset, left_out = read_benchmark(write_benchmark(tmp_path / "a"))
    items = [item(tmp_path / "b", task, number) for task in sorted(SUBSETS) for number in range(2)]
    together, _ = read_benchmark(one_file(tmp_path / "b", *items))
    assert left_out == []
    assert [case[:3] for case in by_subset] == [case[:3] for case in together]
    assert Counter(case.task for case in together) == dict.fromkeys(SUBSETS, 2)
    assert (together[0].id, together[0].action) == ("ag-000", ACTION)
    assert all(case.source.is_file() and case.target.is_file() for case in by_subset + together)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"instruction": " "}, "no instruction"),
        ({"instruction": None}, "no instruction"),
        ({"input": None}, "no input"),
        ({"output": 3}, "no output"),
        ({"output": "images/none.png"}, "output is missing"),
        ({"output": "x" * 5000}, "output is missing"),
        ({"output": "a\0b"}, "output is missing"),
        ({"input": "../secret.png"}, "input outside the benchmark"),
        ({"input": "/etc/passwd"}, "input outside the benchmark"),
        ({"task": "emu"}, "not in a subset that the paper reports"),
    ],
)
def test_an_item_that_is_not_whole_is_left_out_with_a_reason(other: dict, reason: str, tmp_path: Path):
    items = [item(tmp_path, task, 0) for task in SUBSETS]
    cases, left_out = read_benchmark(one_file(tmp_path, *items, item(tmp_path, "ag", 1) | other))
    assert len(cases) == 5
    assert left_out == [LeftOut("emu-000" if "task" in other else "ag-001", reason)]


def test_an_early_version_says_prompt(tmp_path: Path):
    early = item(tmp_path, "ag", 0, prompt="close  the door")
    del early["instruction"]
    cases, left_out = read_benchmark(one_file(tmp_path, early))
    assert cases[0].action == "close the door"
    assert left_out == [LeftOut(task, "no item of this subset") for task in SUBSETS if task != "ag"]


@pytest.mark.parametrize("text", ["[", "{}", "[1]", "[" * 100_000])
def test_what_is_no_list_of_items_is_refused(text: str, tmp_path: Path):
    (tmp_path / "test.json").write_text(text)
    with pytest.raises(InputError, match="file of AURORA-Bench"):
        read_benchmark(tmp_path)


def test_a_folder_without_a_whole_triplet_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"no test\.json"):
        read_benchmark(tmp_path)
    with pytest.raises(InputError, match=r"no triplet is complete: .*input is missing"):
        read_benchmark(one_file(tmp_path, item(tmp_path, "ag", 0, input="gone.png")))
