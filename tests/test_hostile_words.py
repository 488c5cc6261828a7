"""Pages in a real browser with hostile words in every field that a stranger can set."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

import pyarrow as pa
import pytest
from PIL import Image
from selenium.common.exceptions import NoAlertPresentException, TimeoutException, WebDriverException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from kinescribe.evaluation.human_study import build_study
from kinescribe.inference.contact_sheet import Step
from kinescribe.reports.comparison import write_comparison
from kinescribe.reports.report import write_report
from kinescribe.reports.review import write_review
from kinescribe.schemas.clips import Clip, WorkUnit, stable_id
from kinescribe.schemas.dataset import triplet_schema
from kinescribe.schemas.outcomes import ClipOutcome, RejectCode, StageTime, Status
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import Run, bind
from kinescribe.storage.shards import write_unit
from tests.browser import chromium
from tests.tiny_dataset import GRID, outcome, row
from tests.tiny_outputs import write_outputs

OWNED = "document.title='owned';alert(1)"
WORDS = (
    f"<script>{OWNED}</script>",
    f"</script><script>{OWNED}</script>",
    f"<!--<script>{OWNED}//",
    f"]]>--></style></title></textarea><script>{OWNED}</script>",
    f'"\'><img src=x onerror="{OWNED}">',
    f"<svg onload={OWNED}><iframe srcdoc='<script>parent.{OWNED}</script>'>",
    f"\u2028{OWNED}\u2029//`${{{OWNED}}}`{{{{7*7}}}}",
    f"javascript:{OWNED}",
    "<img src='http://HOST/i'><link rel=stylesheet href='http://HOST/s'><link rel=prefetch href=//HOST/p>",
    "</style><style>@import url(http://HOST/c);*{background:url(http://HOST/b)}</style>",
    "<meta http-equiv=refresh content='0;url=http://HOST/m'><base href='http://HOST/'>",
    "<form action='http://HOST/f'><button id=start autofocus>x</button></form><video src=http://HOST/v>",
    "\u202e\x1b[2J\x07<b id=text name=cards>__proto__",
)
LOADED = "return performance.getEntriesByType('resource').map((one) => one.name)"
FOREIGN = "iframe, object, embed, base, form[action], link, video, [onerror], [onload], [srcdoc], b#text"


def hostile_words(host: socket.socket) -> list[str]:
    return [words.replace("HOST", f"127.0.0.1:{host.getsockname()[1]}") for words in WORDS]


def dataset(folder: Path, words: Sequence[str], name: str) -> str:
    """A pair and a rejected clip for each of the words, which are in every text of them and of the run."""
    path = folder / f"{name} <img src=x onerror=alert(1)>"
    clips = [Clip(stable_id(name, word), f"/videos/{word}", word) for word in words]
    rejected = [Clip(stable_id(name, "bad", word), f"{word}/{word}.mp4", word) for word in words]
    unit = WorkUnit(stable_id("unit", name), (*clips, *rejected))
    joined = " ".join(words)[:900]
    codec = f"codec {joined}"
    config = {"dynamics": joined, name: joined, joined: joined}
    bind(str(path), Run(joined, config, {"dynamics": joined, joined: joined}, codec, GRID, name))
    write_plan(str(path), [unit])
    texts = [
        {**row(clip, 0), "triplet_id": stable_id(word), "video": word, "action": f"{word} {name}"}
        for clip, word in zip(clips, words, strict=True)
    ]
    ends = [outcome(clip, 1) for clip in clips]
    ends += [
        ClipOutcome(clip.clip_id, Status.REJECTED, reason=RejectCode.UNREADABLE, message=clip.uri)
        for clip in rejected
    ]
    stages = [StageTime(word, 1.0, 2.0, f"{word}/1", 1) for word in words]
    table = pa.Table.from_pylist(texts, triplet_schema(codec, GRID))
    assert write_unit(str(path), unit, table, ends, stages)
    return str(path)


def pages(folder: Path, words: Sequence[str]) -> list[Path]:
    """A report, a comparison and a study of each of the words."""
    first, second = (dataset(folder, words, name) for name in ("one", "two"))
    picture = Image.new("RGB", (8, 8))
    steps = [Step(word, picture, [picture], [-1.0], 0) for word in words]
    write_report(first, f"{folder}/report.html", imagined=steps)
    write_comparison(first, second, f"{folder}/comparison.html", 100)
    made = [folder / "report.html", folder / "comparison.html"]
    for number, word in enumerate(words):
        outputs = write_outputs(folder / f"models-{number}", 2, instruction=word, task=word)
        page = folder / f"study-{number}.html"
        named = {f"{word} {name}": path for name, path in outputs.items()}
        build_study(named, str(page), None, 0, print)
        made.append(page)
    return made


def review_pairs(browser: Chrome, page: Path, words: Sequence[str]) -> None:
    """Go through all pairs, and correct one, under a hostile name."""
    write_review(str(page.with_suffix("")), str(page), 100, "random", 0, lambda done, total: None)
    browser.get(page.as_uri())
    browser.find_element(By.ID, "rater").send_keys(f'<img src=x onerror="{OWNED}">')
    browser.find_element(By.ID, "start").click()
    shown = set[str]()
    for word in words:
        action = browser.find_element(By.ID, "action").get_attribute("textContent")
        assert action
        shown.add(action)
        browser.find_element(By.ID, "correct").click()
        field = browser.find_element(By.ID, "words")
        browser.execute_script("arguments[0].value = arguments[1]", field, word)
        browser.find_element(By.ID, "save").click()
    browser.find_element(By.ID, "return").click()
    assert all(any(action.startswith(word) for action in shown) for word in words)


def rate(browser: Chrome, word: str) -> None:
    """Enter under a hostile name, so that all words of the study are shown."""
    browser.find_element(By.ID, "rater").send_keys(f'<img src=x onerror="{OWNED}">')
    browser.find_element(By.ID, "start").click()
    assert browser.find_element(By.ID, "action").get_attribute("textContent") == word


def assert_nothing_ran(browser: Chrome, host: socket.socket, address: str) -> None:
    with pytest.raises(NoAlertPresentException):
        _ = browser.switch_to.alert
    assert browser.title != "owned"
    assert browser.current_url.partition("#")[0] == address  # behind it, a report keeps what it shows
    assert browser.find_elements(By.CSS_SELECTOR, FOREIGN) == []
    assert (
        browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)") == []
    )
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    with pytest.raises(BlockingIOError):
        host.accept()


@pytest.mark.slow
def test_no_word_of_a_stranger_becomes_a_script_or_a_request(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as host, chromium(tmp_path) as browser:
        host.settimeout(0)
        browser.set_page_load_timeout(30)  # the host never answers
        words = hostile_words(host)
        report, comparison, *studies = pages(tmp_path, words)
        for page in (report, comparison):
            browser.get(page.as_uri())
            browser.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")
            shown = [
                one.get_attribute("textContent")
                for one in browser.find_elements(By.CSS_SELECTOR, "#cards h3")
            ]
            assert len(shown) >= len(words)
            assert_nothing_ran(browser, host, page.as_uri())
            for word in words:
                state = urlencode(dict.fromkeys(("text", "class", "order", "view", "least", "page"), word))
                browser.get(f"{page.as_uri()}#?{state}&page=1e999")
                assert_nothing_ran(browser, host, page.as_uri())
            for button in browser.find_elements(By.CSS_SELECTOR, "[data-text], [data-class]")[::4]:
                browser.execute_script("arguments[0].click()", button)
            assert_nothing_ran(browser, host, page.as_uri())
        page = Path(f"{dataset(tmp_path, words, 'three')}.html")
        review_pairs(browser, page, words)
        assert_nothing_ran(browser, host, page.as_uri())
        for page, word in zip(studies, words, strict=True):
            browser.get(page.as_uri())
            rate(browser, word)
            assert_nothing_ran(browser, host, page.as_uri())


@pytest.mark.slow
@pytest.mark.parametrize("place", [1, 4, 8])
def test_what_a_browser_is_made_to_do_is_noticed(tmp_path: Path, place: int):
    with socket.create_server(("127.0.0.1", 0)) as host, chromium(tmp_path) as browser:
        host.settimeout(0)
        browser.set_page_load_timeout(5)  # the host never answers
        page = tmp_path / "page.html"
        page.write_text("<meta charset=utf-8>" + hostile_words(host)[place])
        with suppress(TimeoutException):
            browser.get(page.as_uri())
        with pytest.raises((AssertionError, pytest.fail.Exception, WebDriverException)):
            assert_nothing_ran(browser, host, page.as_uri())
