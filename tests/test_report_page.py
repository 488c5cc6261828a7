"""What people do with a report's pairs in a browser, and with the ids that they choose there."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

import kinescribe
from kinescribe.labeling.ids import read_ids
from kinescribe.labeling.units import plan_units
from kinescribe.schemas.clips import Clip, stable_id
from kinescribe.schemas.errors import InputError
from kinescribe.schemas.outcomes import DropReason, RejectCode
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind
from kinescribe.storage.selection import read_selection
from kinescribe.storage.shards import write_unit
from tests.browser import Reader, chromium
from tests.filmed_dataset import clip_of
from tests.tiny_dataset import build, outcome, run_of, table
from tests.videos import write_video


@pytest.fixture(scope="module", name="folder")
def folder_with_a_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    build(str(folder / "dataset"), [4] * 10)
    kinescribe.report(folder / "dataset", folder / "report.html")
    return folder


@pytest.fixture(scope="module", name="browser")
def a_browser(folder: Path) -> Iterator[Chrome]:
    with chromium(folder / "downloads") as browser:
        yield browser


@pytest.fixture(name="reader")
def someone(browser: Chrome, folder: Path) -> Reader:
    browser.get("about:blank")
    return Reader(browser, folder / "report.html")


def actions(reader: Reader) -> list[str]:
    return [line.text for line in reader.all("#cards h3")]


def test_the_address_shows_the_same_again(reader: Reader, browser: Chrome):
    assert "#" not in browser.current_url
    reader.find("text").send_keys("move 1")
    reader.choose("order", "lowest score first")
    reader.choose("view", "before / after slider")
    shown, address = actions(reader), browser.current_url
    assert len(shown) == 10
    browser.get("about:blank")
    browser.get(address)
    assert actions(reader) == shown
    assert reader.find("text").get_property("value") == "move 1"
    assert reader.find("view").get_property("value") == "slider"
    reader.find("clear").click()
    reader.choose("view", "side by side")
    assert "#" not in browser.current_url


def test_a_page_is_in_the_address_and_a_wrong_address_is_ignored(
    reader: Reader, browser: Chrome, folder: Path
):
    reader.find("next").click()
    assert browser.current_url.endswith("#?page=2")
    shown = actions(reader)
    browser.get("about:blank")
    browser.get(f"{(folder / 'report.html').as_uri()}#?page=2")
    assert actions(reader) == shown
    browser.get("about:blank")
    browser.get(f"{(folder / 'report.html').as_uri()}#?page=99&order=x&class=%22no%22&heat=7&text=")
    assert reader.find("page").text == "page 2 of 2"
    assert reader.refused() == []


def test_links_within_the_page_still_lead_there(reader: Reader, browser: Chrome):
    reader.all(".contents a[href='#settings']")[0].click()
    assert browser.current_url.endswith("#settings")
    reader.find("text").send_keys("move 1")
    assert browser.current_url.endswith("#?text=move+1")


def test_a_pair_is_enlarged_and_the_next_follows(reader: Reader, browser: Chrome):
    shown = actions(reader)
    reader.all("#cards .frames")[0].click()
    dialog = reader.find("large")
    assert dialog.is_displayed()
    (large,) = reader.all("#large .frame:first-child")
    assert large.size["width"] > 2 * reader.all("#cards .frame")[0].size["width"]
    assert reader.all("#large h3")[0].text == shown[0]
    for place in (1, 2):
        ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
        assert reader.all("#large h3")[0].text == shown[place]
    ActionChains(browser).send_keys(Keys.ARROW_LEFT).perform()
    assert reader.all("#large h3")[0].text == shown[1]
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert not dialog.is_displayed()


def exported(reader: Reader, folder: Path) -> Path:
    before = set((folder / "downloads").glob("ids*.txt"))
    reader.find("export-ids").click()
    for _ in range(100):
        if new := set((folder / "downloads").glob("ids*.txt")) - before:
            return new.pop()
        time.sleep(0.1)
    raise AssertionError("nothing was exported")


def test_chosen_pairs_are_exported_and_taken_by_curate_and_review(reader: Reader, folder: Path):
    assert not reader.find("export-ids").is_enabled()
    reader.find("text").send_keys("move 2")
    reader.find("all").click()
    reader.find("clear").click()
    for box in reader.all("#cards [type=checkbox]"):
        if not box.is_selected():
            box.click()
            break
    assert reader.find("chosen").text == "11 chosen"
    ids = exported(reader, folder)
    assert len(read_ids(str(ids))) == 11

    out = folder / "selection.parquet"
    curated = kinescribe.curate(folder / "dataset", out, top_k=100, ids=ids)
    assert (curated.chosen, curated.dropped) == (11, {"ids": 29})
    chosen = read_selection(str(out))
    assert set(chosen.rows["triplet_id"].to_pylist()) == set(read_ids(str(ids)))
    assert "ids" in chosen.options
    assert kinescribe.review.build(folder / "dataset", folder / "review.html", ids=ids) == 11

    reader.find("none").click()
    assert reader.find("chosen").text == "0 chosen"


def test_ids_of_another_dataset_are_refused(folder: Path, tmp_path: Path):
    (tmp_path / "ids.txt").write_text("0" * 32)
    with pytest.raises(InputError, match="lacks 1 of the ids, first 0000"):
        kinescribe.review.build(folder / "dataset", tmp_path / "review.html", ids=tmp_path / "ids.txt")
    with pytest.raises(kinescribe.DatasetError, match="ids dropped 40"):
        kinescribe.curate(folder / "dataset", tmp_path / "a.parquet", top_k=1, ids=tmp_path / "ids.txt")


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_cut_off(reader: Reader, browser: Chrome, width: int):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.refresh()
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    cut = """
        return [...document.querySelectorAll(".frequent button, #cards h3")]
            .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent);
    """
    assert browser.execute_script(cut) == []
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_frames_of_dropped_clips_are_shown_if_they_are_asked_for(tmp_path: Path, browser: Chrome):
    write_video(tmp_path / "still.mp4", [np.full((64, 96, 3), 90, np.uint8)] * 30)
    still, away = clip_of(str(tmp_path / "still.mp4")), Clip(stable_id("away"), "/nowhere/away.mp4")
    run = run_of([still, away])
    (unit,) = plan_units([still, away], 2, run.fingerprint)
    bind(str(tmp_path / "dataset"), run)
    write_plan(str(tmp_path / "dataset"), [unit])
    ends = [outcome(still, DropReason.STATIC), outcome(away, RejectCode.MISSING)]
    write_unit(str(tmp_path / "dataset"), unit, table([]), ends)
    for options, num in (({}, 0), ({"dropped_frames": True, "roots": tmp_path}, 2)):
        kinescribe.report(tmp_path / "dataset", tmp_path / "report.html", **options)
        reader = Reader(browser, tmp_path / "report.html")
        assert len(reader.all(".ends img")) == num
        assert len(reader.all(".example")) == 2
        assert reader.refused() == []
