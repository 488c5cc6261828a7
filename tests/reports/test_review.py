import base64
import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from kinescribe.labeling.ratings import read_reviews
from kinescribe.reports.review import write_review
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.review import REASONS
from kinescribe.storage.dataset import Dataset
from tests.browser import Reader, chromium
from tests.tiny_dataset import build


def write(dataset: Path, num: int = 5, seed: int = 0) -> Path:
    page = dataset.parent / f"review-{num}-{seed}.html"
    write_review(dataset, str(page), num, "random", seed, lambda done, total: None)
    return page


def shown_in(page: Path) -> dict[str, Any]:
    found = re.search(
        r'<script type="application/json" id="review">(.*?)</script>', page.read_text(), re.DOTALL
    )
    assert found
    return json.loads(found[1])


def picture(uri: str) -> tuple[int, int, int]:
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    red, green, blue = image.convert("RGB").resize((1, 1)).getpixel((0, 0))  # pyright: ignore
    return red, green, blue


@pytest.fixture(scope="module", name="dataset")
def dataset_of_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review") / "dataset"
    build(str(folder), [4, 4, 4])
    return folder


def test_the_page_has_the_drawn_pairs_with_their_clips(dataset: Path):
    shown = shown_in(write(dataset))
    rows = {row["triplet_id"]: row for row in Dataset.open(dataset).scan().to_table().to_pylist()}
    assert len(shown["pairs"]) == 5
    for pair in shown["pairs"]:
        row = rows[pair["id"]]
        assert pair["action"] == row["action"]
        assert pair["times"] == [row["source_time_s"], row["target_time_s"]]
        assert pair["score"] == pytest.approx(row["action_logprob"] / 2)
        assert picture(pair["source"])[0] > 200 > 50 > picture(pair["source"])[2]
        assert picture(pair["target"])[2] > 200
        times = [time for time, _ in pair["clip"]]
        assert times == sorted(times)
        assert {0.0, 0.5, 1.0, 1.5, 2.0} == set(times)
    assert shown["dataset"] == Dataset.open(dataset).fingerprint
    assert sorted(shown["words"]) == ["move 0", "move 1", "move 2", "move 3"]


def test_a_seed_gives_the_same_page(dataset: Path):
    first = write(dataset).read_bytes()
    assert write(dataset).read_bytes() == first
    assert shown_in(write(dataset, seed=1))["id"] != shown_in(write(dataset))["id"]


def test_another_file_is_never_replaced(dataset: Path):
    (dataset.parent / "mine.html").write_text("mine")
    with pytest.raises(ConfigError, match="is another kind of file"):
        write_review(dataset, str(dataset.parent / "mine.html"), 1, "random", 0, lambda done, total: None)


@pytest.fixture(scope="module", name="browser")
def a_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("downloads")) as browser:
        browser.set_window_size(1400, 900)
        yield browser


class Rater(Reader):
    """Someone who reviews by keyboard."""

    def __init__(self, browser: Chrome, page: Path, name: str) -> None:
        super().__init__(browser, page)
        if self.find("leave").is_displayed():
            self.find("leave").click()
        self.find("rater").send_keys(name + Keys.ENTER)

    def press(self, keys: str) -> None:
        for key in keys:
            ActionChains(self.browser).send_keys(key).perform()

    @property
    def action(self) -> str:
        return self.find("action").text

    def exported(self, downloads: Path) -> Path:
        before = set(downloads.glob("*.json"))
        self.find("export").click()
        for _ in range(100):
            if new := set(downloads.glob("*.json")) - before:
                return new.pop()
            time.sleep(0.1)
        raise AssertionError("nothing was exported")


def test_a_review_by_keyboard_is_exported(dataset: Path, tmp_path: Path):
    page = write(dataset, 12)
    pairs = [pair["id"] for pair in shown_in(page)["pairs"]]
    with chromium(tmp_path) as browser:
        rater = Rater(browser, page, "Anna Ö.")
        rater.press("k")
        rater.press("c")
        rater.find("words").send_keys(f"  lift   the cup {Keys.ENTER}")
        rater.press("r3")
        rater.press("s")  # the fourth is skipped
        rater.press("kk")
        rater.press("uu")  # and the fifth and sixth are left as they were
        assert rater.find("place").text == "5 of 12"
        rater.press("r1")
        rater.press(Keys.ARROW_LEFT)
        assert rater.find("verdict").text == f"rejected: {REASONS['action']}"
        file = rater.exported(tmp_path)
        assert rater.refused() == []
    (ratings,) = read_reviews([str(file)]).values()
    assert ratings.dataset == Dataset.open(dataset).fingerprint
    (of_rater,) = ratings.by_rater.values()
    assert list(ratings.by_rater) == ["Anna Ö."]
    assert {row: (one.verdict, one.action, one.reason) for row, one in of_rater.items()} == {
        pairs[0]: ("keep", None, None),
        pairs[1]: ("correct", "lift the cup", None),
        pairs[2]: ("reject", None, "several"),
        pairs[4]: ("reject", None, "action"),
    }


def test_answers_stay_with_their_rater_until_all_is_rated(dataset: Path, browser: Chrome):
    page = write(dataset, 4)
    rater = Rater(browser, page, "Anna")
    rater.press("kk")
    browser.refresh()
    assert rater.find("who").text == "Anna: 2 of 4 rated"
    assert rater.find("place").text == "3 of 4"
    other = Rater(browser, page, "Bela")
    assert other.find("who").text == "Bela: 0 of 4 rated"
    again = Rater(browser, page, "Anna")
    again.press("kk")
    assert "Every pair is rated" in again.find("left").text
    again.find("return").click()
    assert again.find("place").text == "4 of 4"


def test_the_likelihood_is_hidden_until_it_is_asked_for(dataset: Path, browser: Chrome):
    rater = Rater(browser, write(dataset), "Anna")
    assert not rater.find("score").is_displayed()
    rater.press("l")
    assert "log-likelihood" in rater.find("score").text


def test_words_that_stay_the_same_are_kept_and_empty_ones_wait(dataset: Path, browser: Chrome):
    page = write(dataset, 3)
    rater = Rater(browser, page, "Cleo")
    rater.press("c" + Keys.ENTER)
    rater.press(Keys.ARROW_LEFT)
    assert rater.find("verdict").text == "kept"
    rater.press(Keys.ARROW_RIGHT + "c")
    rater.find("words").clear()
    rater.find("words").send_keys(Keys.ENTER)
    assert rater.find("place").text == "2 of 3"
    assert rater.find("correction").is_displayed()
    rater.find("words").send_keys("krs" + Keys.ESCAPE)  # letters in the field are no commands
    assert not rater.find("correction").is_displayed()
    assert rater.find("verdict").text == ""


def test_the_first_frame_is_shown_in_place_of_the_second_while_space_is_held(dataset: Path, browser: Chrome):
    rater = Rater(browser, write(dataset), "Anna")
    source, target = (rater.find(name).get_attribute("src") for name in ("source", "target"))
    ActionChains(browser).key_down(" ").perform()
    assert rater.find("target").get_attribute("src") == source
    ActionChains(browser).key_up(" ").perform()
    assert rater.find("target").get_attribute("src") == target
    ActionChains(browser).click_and_hold(rater.find("target")).perform()
    assert rater.find("after").text == "before"
    ActionChains(browser).release().perform()
    assert rater.find("after").text == "after"


@pytest.mark.parametrize("width", [390, 1400])
def test_everything_fits_the_width(dataset: Path, browser: Chrome, width: int):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    rater = Rater(browser, write(dataset), "Dana")
    rater.press("c")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert rater.find("save").is_displayed()
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_offers_the_words_of_the_dataset(dataset: Path, browser: Chrome):
    rater = Rater(browser, write(dataset), "Anna")
    offered = {option.get_attribute("value") for option in rater.all("#known option")}
    assert offered == {"move 0", "move 1", "move 2", "move 3"}
