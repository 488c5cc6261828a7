import base64
import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from kinescribe.evaluation.human_study import CRITERIA, Key, build_study, read_key
from kinescribe.evaluation.human_study_scores import score_study
from kinescribe.schemas.errors import ConfigError, InputError
from tests.browser import chromium
from tests.tiny_outputs import COLOURS, write_outputs

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def build(tmp_path: Path, folders: dict[str, Path], num: int | None = None, seed: int = 0) -> tuple[str, Key]:
    warnings: list[str] = []
    key = build_study(folders, str(tmp_path / "study.html"), num, seed, warnings.append)
    assert warnings == []
    return (tmp_path / "study.html").read_text(), read_key(Path(key))


def study_in(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def colour_of(image: str) -> str:
    """The model whose colour a picture has."""
    pixel = Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))).getpixel((5, 5))
    assert isinstance(pixel, tuple)
    return min(COLOURS, key=lambda name: sum(abs(a - b) for a, b in zip(COLOURS[name], pixel, strict=True)))


def test_the_key_says_whose_each_picture_is_and_the_page_does_not(tmp_path: Path):
    page, key = build(tmp_path, write_outputs(tmp_path))
    study = study_in(page)
    assert study["id"] == key.study
    assert len(study["questions"]) == 3
    for question in study["questions"]:
        shown = {option["id"]: colour_of(option["image"]) for option in question["options"]}
        assert shown == {name: choice.model for name, choice in key.questions[question["id"]].items()}
    words = re.sub(r"base64,[^\"]*", "", page)
    assert not any(re.search(rf"\b{name}\b", words) for name in COLOURS)


def test_the_same_seed_gives_the_same_study_whatever_a_judge_says_meanwhile(tmp_path: Path):
    before, key = build(tmp_path, write_outputs(tmp_path / "a"))
    after, judged = build(tmp_path, write_outputs(tmp_path / "b", judge={"red": 3.0}))
    assert before == after
    scores = {choice.model: choice.judge for choice in judged.questions["q0"].values()}
    assert (scores["red"], scores["blue"]) == (3.0, None)
    assert build(tmp_path / "other", write_outputs(tmp_path / "c"), seed=1)[1].study != key.study


def test_tasks_take_turns_where_not_all_cases_are_taken(tmp_path: Path):
    page, _ = build(tmp_path, write_outputs(tmp_path, 20), num=4)
    numbers = [int(question["action"].split()[-1]) % 2 for question in study_in(page)["questions"]]
    assert sorted(numbers) == [0, 0, 1, 1]


def test_cases_that_a_model_lacks_are_left_out_with_a_word(tmp_path: Path):
    folders = write_outputs(tmp_path)
    outputs = json.loads((folders["red"] / "outputs.json").read_text())
    (folders["red"] / "outputs.json").write_text(json.dumps(outputs[1:]))
    warnings: list[str] = []
    key = read_key(Path(build_study(folders, str(tmp_path / "study.html"), None, 0, warnings.append)))
    assert len(key.questions) == 2
    assert "1 of 3 cases" in warnings[0]


def test_one_model_is_no_study(tmp_path: Path):
    with pytest.raises(ConfigError, match="2 to 9 models, got 1"):
        build(tmp_path, {"red": write_outputs(tmp_path)["red"]})


def test_ids_that_mean_different_cases_are_refused(tmp_path: Path):
    folders = write_outputs(tmp_path / "a")
    folders["other"] = write_outputs(tmp_path / "b", instruction="do something else")["red"]
    with pytest.raises(InputError, match="other: case-0 has another instruction than in red"):
        build(tmp_path, folders)


def test_another_studys_key_is_never_replaced(tmp_path: Path):
    page, key = build(tmp_path, write_outputs(tmp_path / "a"))
    swapped = dict(zip(COLOURS, reversed(list(write_outputs(tmp_path / "b").values())), strict=True))
    for folders, seed in ((write_outputs(tmp_path / "c"), 1), (swapped, 0)):
        with pytest.raises(ConfigError, match=r"study.key.json is another study's key"):
            build(tmp_path, folders, seed=seed)
    assert (tmp_path / "study.html").read_text() == page
    assert read_key(tmp_path / "study.key.json") == key


@pytest.mark.parametrize("name", ["study.html", "study.key.json"])
def test_a_file_that_no_study_wrote_is_never_replaced(name: str, tmp_path: Path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match="name another"):
        build(tmp_path, write_outputs(tmp_path))
    assert (tmp_path / name).read_text() == "mine"
    assert len(list(tmp_path.glob("study.*"))) == 1


def test_one_folder_under_two_names_is_refused(tmp_path: Path):
    red = write_outputs(tmp_path)["red"]
    with pytest.raises(ConfigError, match=r"--model ours and theirs are the same folder"):
        build(tmp_path, {"ours": red, "theirs": red / ".." / "red"})


def test_what_is_no_key_is_refused(tmp_path: Path):
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(InputError, match="is not the key of a study"):
        read_key(tmp_path / "key.json")


FORGED = {
    "a model that a question lacks": lambda key: key["models"].append("other"),
    "a model twice": lambda key: key["models"].append("red"),
    "no models": lambda key: key["models"].clear(),
    "a choice of an unknown model": lambda key: key["questions"]["q0"]["q0-0"].update(model="other"),
    "a question without choices": lambda key: key["questions"].update(q0={}),
    "a score that is no number": lambda key: key["questions"]["q0"]["q0-0"].update(judge=float("inf")),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_forged_key_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object]):
    build(tmp_path, write_outputs(tmp_path))
    file = tmp_path / "study.key.json"
    forged = json.loads(file.read_text())
    change(forged)
    file.write_text(json.dumps(forged))
    with pytest.raises(InputError, match="is not the key of a study"):
        read_key(file)


class Rater:
    """Someone at the page."""

    def __init__(self, browser: Chrome) -> None:
        self.browser = browser

    def find(self, id: str) -> Any:
        return self.browser.find_element(By.ID, id)

    def enter(self, name: str) -> None:
        self.find("rater").send_keys(name + Keys.ENTER)

    def press(self, *keys: str, shift: bool = False) -> None:
        actions = ActionChains(self.browser)
        if shift:
            actions.key_down(Keys.SHIFT)
        actions.send_keys(*keys)
        if shift:
            actions.key_up(Keys.SHIFT)
        actions.perform()

    def pictures(self) -> list[str]:
        images = self.browser.find_elements(By.CSS_SELECTOR, "#options img")
        return [colour_of(image.get_attribute("src") or "") for image in images]

    def pressed(self) -> list[str]:
        buttons = self.browser.find_elements(By.CSS_SELECTOR, '[aria-pressed="true"]')
        return [button.get_attribute("aria-label") or "" for button in buttons]

    def choose_by_keys(self, best: str, worst: str) -> None:
        """For every criterion; the page goes on to the next one by itself."""
        order = self.pictures()
        for _ in CRITERIA:
            self.press(str(order.index(best) + 1))
            self.press(str(order.index(worst) + 1), shift=True)

    def choose_by_mouse(self, best: str, worst: str) -> None:
        order = self.pictures()
        for criterion in CRITERIA:
            for kind, colour in (("best", best), ("worst", worst)):
                place = f"[data-pick={kind}][data-criterion={criterion}][data-place='{order.index(colour)}']"
                self.browser.find_element(By.CSS_SELECTOR, place).click()

    def export(self, folder: Path) -> Path:
        self.find("export").click()
        deadline = time.monotonic() + 60
        while not (files := list(folder.glob("study-*.json"))):
            assert time.monotonic() < deadline, "the page exported nothing"
            time.sleep(0.1)
        return files[0]


def rated_after_a_reload(rater: Rater) -> None:
    """Answers three questions, the first by keys, the others by mouse, with a reload between."""
    rater.enter("Zoë <b>1</b>")
    before = rater.pictures()
    assert sorted(before) == sorted(COLOURS)
    rater.choose_by_keys("red", "blue")
    rater.browser.refresh()
    assert rater.pictures() == before
    assert len(rater.pressed()) == 2 * len(CRITERIA)
    rater.press(Keys.ARROW_RIGHT)
    assert rater.pressed() == []
    rater.choose_by_mouse("red", "blue")
    rater.find("next").click()
    rater.choose_by_mouse("green", "blue")
    rater.find("next").click()
    assert "Everything is answered" in rater.find("left").text


@pytest.mark.slow
def test_the_page_is_operated_in_a_browser_and_what_it_exports_is_scored(tmp_path: Path):
    _, key = build(
        tmp_path, write_outputs(tmp_path / "models", judge=dict(zip(COLOURS, (9, 6, 1, 5), strict=True)))
    )
    with chromium(tmp_path) as browser:
        browser.get((tmp_path / "study.html").as_uri())
        rater = Rater(browser)
        rated_after_a_reload(rater)
        export = rater.export(tmp_path)
        rater.find("leave").click()
        rater.enter("another")
        assert rater.pressed() == []
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert export.name == f"study-{key.study}-Zoë-b-1-b-.json"
    assert json.loads(export.read_text())["rater"] == "Zoë <b>1</b>"
    scores = score_study(key, [export])
    assert (scores.raters, scores.questions, scores.unfinished) == (1, 3, 0)
    means = {model: mean.mean for model, mean in scores.criteria["all"].scores.items()}
    assert means == pytest.approx({"red": 2 / 3, "green": 1 / 3, "blue": -1, "grey": 0})


@pytest.mark.slow
def test_words_of_a_dataset_are_text_on_the_page_and_no_script_but_its_own_runs(tmp_path: Path):
    page, _ = build(tmp_path, write_outputs(tmp_path / "models", instruction=HOSTILE))
    smuggled = "<script>document.title = 'owned'</script><img src='https://example.com/x.png'></body>"
    (tmp_path / "smuggled.html").write_text(page.replace("</body>", smuggled))
    with chromium(tmp_path) as browser:
        rater = Rater(browser)
        for name, num_refused in (("study.html", 0), ("smuggled.html", 2)):
            browser.get((tmp_path / name).as_uri())
            rater.enter(name)
            assert rater.find("action").text == HOSTILE
            assert browser.title == "Which picture is best?"
            refused = [entry["message"] for entry in browser.get_log("browser")]
            assert sum("Content Security Policy" in message for message in refused) == num_refused
            rater.find("leave").click()


def test_a_question_fits_the_screen_and_a_phones_width(tmp_path: Path):
    build(tmp_path, write_outputs(tmp_path / "models"))
    with chromium(tmp_path) as browser:
        rater = Rater(browser)
        for width, height in ((1400, 900), (390, 844)):
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            browser.get((tmp_path / "study.html").as_uri())
            rater.enter(str(width))
            taken = browser.execute_script(
                "const all = document.documentElement; return [all.scrollWidth, all.scrollHeight]"
            )
            assert taken[0] <= width
            assert taken[1] <= height or width == 390
            rater.find("leave").click()


def test_no_difference_is_an_answer(tmp_path: Path):
    _, key = build(tmp_path, write_outputs(tmp_path / "models"))
    with chromium(tmp_path) as browser:
        browser.get((tmp_path / "study.html").as_uri())
        rater = Rater(browser)
        rater.enter("Anna")
        rater.press("0", "0", "0")
        assert rater.find("who").text == "Anna: 1 of 3 answered"
        rater.press(Keys.ARROW_RIGHT, "0")
        rater.choose_by_mouse("red", "blue")  # takes the place of the tie
        rater.find("next").click()
        export = rater.export(tmp_path)
    scores = score_study(key, [export])
    assert (scores.questions, scores.unfinished) == (2, 0)
    means = {model: mean.mean for model, mean in scores.criteria["all"].scores.items()}
    assert means == pytest.approx({"red": 0.5, "green": 0, "blue": -0.5, "grey": 0})
    assert next(iter(scores.criteria["action"].comparisons)).ties == 1
