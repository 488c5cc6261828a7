import json
import time
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from kinescribe.cli import main
from kinescribe.storage.audit import check
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.selection import read_selection
from tests.browser import Reader, chromium
from tests.reviews import KEEP, REJECT, review, triplets
from tests.tiny_dataset import build


@pytest.fixture(name="dataset")
def dataset_of_rows(tmp_path: Path) -> Path:
    """Forty rows: `move 0` to `move 3` of ten clips, each less likely than the one before."""
    build(str(tmp_path / "dataset"), [4] * 10, clips_per_unit=3)
    return tmp_path / "dataset"


def run(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    assert leaving.value.code == code


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


def rate_all(page: Path, downloads: Path) -> Path:
    """Keep `move 0` and `move 1`, correct `move 2` and reject `move 3`; export."""
    with chromium(downloads) as browser:
        reader = Reader(browser, page)
        reader.find("rater").send_keys("Anna" + Keys.ENTER)
        while reader.find("rating").is_displayed():
            number = int(reader.find("action").text.split()[-1])
            ActionChains(browser).send_keys("kkcr"[number]).perform()
            if number == 2:
                reader.find("words").send_keys("lift it" + Keys.ENTER)
            if number == 3:
                ActionChains(browser).send_keys("2").perform()
        reader.find("export").click()
        for _ in range(100):
            if files := list(downloads.glob("review-*.json")):
                return files[0]
            time.sleep(0.1)
    raise AssertionError("nothing was exported")


def test_from_the_page_to_a_calibrated_selection(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    page, corrected, plot = tmp_path / "review.html", tmp_path / "corrected", tmp_path / "plot.png"
    run("review", "build", dataset, "--num", 40, "--out", page)
    assert capsys.readouterr().out.strip() == str(page)
    file = rate_all(page, tmp_path)

    run("review", "apply", dataset, file, "--out", corrected, "--json", "--plot", plot)
    scores = printed(capsys)
    assert (scores["precision"]["right"], scores["precision"]["rated"], scores["corrected"]) == (20, 40, 10)
    assert {one["top_k"]: one["precision"] for one in scores["expected"]}[20] == 1
    assert scores["expected"][-1]["precision"] == 0.5
    assert plot.stat().st_size > 10_000
    actions = Dataset.open(corrected).scan(["action"]).to_table()["action"].to_pylist()
    assert sorted(set(actions)) == ["lift it", "move 0", "move 1"]
    assert len(actions) == 30
    assert check(str(corrected)).ok

    best = tmp_path / "best.parquet"
    words = ("--top-k", 40, "--out", best, "--review", file, "--min-precision", 0.9, "--json")
    run("curate", dataset, *words)
    assert printed(capsys)["dropped"] == {"review": 20, "min_precision": 0}
    assert len(read_selection(str(best)).rows) == 20


def test_the_rest_of_a_sample_is_chosen_by_its_precision(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Of thirty rated rows, `move 0` and `move 1` are right; the other ten rows are chosen accordingly."""
    table = Dataset.open(dataset).scan(["triplet_id", "action"]).to_table().to_pylist()
    right = {one["triplet_id"]: one["action"] in ("move 0", "move 1") for one in table}
    rated = triplets(dataset)[:30]
    file = review(tmp_path, dataset, {row: KEEP if right[row] else REJECT for row in rated})
    out = tmp_path / "best.parquet"
    run("curate", dataset, "--top-k", 40, "--out", out, "--review", file, "--min-precision", 0.99)
    assert set(read_selection(str(out)).rows["triplet_id"].to_pylist()) == {r for r in right if right[r]}


def test_the_result_is_shown_in_words(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run("review", "apply", dataset, review(tmp_path, dataset, [KEEP] * 30))
    out = capsys.readouterr().out
    assert "30 of 30" in out
    assert "--top-k" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--num", 0), "--num"),
        (("--num", 3000), "--num"),
        (("--draw", "best"), "--draw"),
        (("--out", "page.txt"), "ends in .html"),
    ],
)
def test_wrong_options_are_named(
    dataset: Path, options: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
):
    run(
        "review",
        "build",
        dataset,
        *(("--out", "page.html") if "--out" not in options else ()),
        *options,
        code=2,
    )
    assert message in capsys.readouterr().err


def test_a_dataset_is_never_replaced_by_the_corrected_rows(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run("review", "apply", dataset, review(tmp_path, dataset, [KEEP]), "--out", dataset, code=2)
    assert "belongs to another run" in capsys.readouterr().err


def test_the_review_of_another_dataset_is_refused(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    build(str(tmp_path / "other"), [1])
    run("review", "apply", tmp_path / "other", review(tmp_path, dataset, [KEEP]), code=2)
    assert "name the dataset that its page was built of" in capsys.readouterr().err
