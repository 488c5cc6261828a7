import io
import json
import math
import time
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from kinescribe.inference.contact_sheet import Step
from kinescribe.reports.report import write_report
from kinescribe.schemas.clips import Clip, WorkUnit, stable_id
from kinescribe.schemas.dataset import triplet_schema
from kinescribe.schemas.errors import DatasetError, StoreError
from kinescribe.schemas.outcomes import ClipOutcome, DropReason, RejectCode, StageTime, Status
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import Run, bind
from kinescribe.storage.shards import unit_uri, write_unit
from tests.browser import Reader, chromium

GRID = (4, 4)
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The tags of a page with their attributes, its text, and the data for its script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.data: list[Any] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if tag == "script" and attributes.get("type") == "application/json" and data.strip():
            self.data.append(json.loads(data))
        else:
            self.text += data

    @property
    def pairs(self) -> dict[str, list[Any]]:
        return self.data[0]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> dict[str, bytes | None]:
    data = io.BytesIO()
    Image.new("RGB", size, (seed * 37 % 256, 90, 140)).save(data, "JPEG")
    return {"bytes": data.getvalue(), "path": None}


def row(clip: Clip, index: int, action: str = "move the red ball left") -> dict[str, object]:
    return {
        "triplet_id": stable_id(clip.clip_id, index),
        "clip_id": clip.clip_id,
        "video": clip.uri,
        "action_class": clip.action_class,
        "source": picture(index),
        "target": picture(index + 1),
        "source_time_s": index * 1.0,
        "target_time_s": index + 1.0,
        "action": action,
        "action_logprob": -0.5 * (index + 1),
        "action_tokens": 5,
        "finish_reason": "stop",
        "importance": np.linspace(0, 3, math.prod(GRID)).astype(np.float16),
        "source_codes": np.zeros(math.prod(GRID), np.uint16),
        "target_codes": np.zeros(math.prod(GRID), np.uint16),
        "motion": 2.5,
    }


def write_dataset(
    folder: Path,
    clips: Sequence[Clip],
    rows: Sequence[dict[str, object]],
    outcomes: Sequence[ClipOutcome],
    stages: Sequence[StageTime] = (),
) -> None:
    unit = WorkUnit(stable_id("unit"), tuple(clips))
    bind(str(folder), Run("0", {"dynamics": "embedded"}, {"dynamics": "m"}, "vq-x", GRID, "p"))
    write_plan(str(folder), [unit])
    table = pa.Table.from_pylist(list(rows), schema=triplet_schema("vq-x", GRID))
    write_unit(str(folder), unit, table, outcomes, stages)


def rendered(folder: Path, sample: int = 24) -> str:
    write_report(str(folder), str(folder / "report.html"), sample)
    return (folder / "report.html").read_text()


def kept(clip: Clip, num: int) -> ClipOutcome:
    return ClipOutcome(clip.clip_id, Status.KEPT, num)


def test_the_page_holds_each_sampled_pair_with_three_pictures(tmp_path: Path):
    clip = Clip("c0", "videos/juggle/a.mp4", "juggle")
    write_dataset(tmp_path, [clip], [row(clip, index) for index in range(5)], [kept(clip, 5)])
    page = Page(rendered(tmp_path, sample=3))
    assert len(page.pairs["action"]) == 3
    pictures = [picture for block in page.data[1:] for picture in block]
    assert all(pictures[place] for name in ("source", "target", "heat") for place in page.pairs[name])
    assert page.pairs["video"] == ["juggle/a.mp4"] * 3
    assert "3 of 5, drawn at random" in page.text


def test_the_page_shows_the_timeline_and_the_bottleneck(tmp_path: Path):
    clip = Clip("c0", "a.mp4")
    begun = time.time() - 100
    stages = [StageTime("decode", begun, 12, "node/1", 9), StageTime("label", begun + 12, 80, "node/2", 70)]
    write_dataset(tmp_path, [clip], [row(clip, 0)], [kept(clip, 1)], stages)
    page = Page(rendered(tmp_path))
    lanes = [
        tag["class"] for name, tag in page.tags if name == "div" and str(tag.get("class")).startswith("lane ")
    ]
    assert lanes == ["lane tall", "lane bottleneck"]
    assert "80 s a clip" in page.text


def test_imagined_steps_are_shown_with_source_best_sample_and_all_scores(tmp_path: Path):
    clip = Clip("c0", "a.mp4")
    write_dataset(tmp_path, [clip], [row(clip, 0)], [kept(clip, 1)])
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    step = Step("wave <b>hands</b>", images[0], images[1:], [-3.25, -0.01], 1)
    write_report(str(tmp_path), str(tmp_path / "report.html"), imagined=[step])
    page = Page((tmp_path / "report.html").read_text())
    assert page.count("img") == 4
    assert page.count("b") == 0
    assert all(text in page.text for text in ("wave <b>hands</b>", "-3.2", "0.0"))


def test_the_sample_is_the_same_for_the_same_dataset(tmp_path: Path):
    clip = Clip("c0", "a.mp4")
    write_dataset(tmp_path, [clip], [row(clip, index) for index in range(9)], [kept(clip, 9)])
    assert rendered(tmp_path, 4) == rendered(tmp_path, 4)


def test_nothing_is_loaded_from_elsewhere_and_no_script_but_its_own_may_run(tmp_path: Path):
    clip = Clip("c0", "a.mp4")
    write_dataset(tmp_path, [clip], [row(clip, 0)], [kept(clip, 1)])
    page = Page(rendered(tmp_path))
    assert not page.count("link")
    assert all(
        str(value).startswith("data:") for _, tag in page.tags for key, value in tag.items() if key == "src"
    )
    policy = next(tag["content"] for name, tag in page.tags if name == "meta" and "http-equiv" in tag)
    assert policy is not None
    allowed = dict(part.split(maxsplit=1) for part in policy.split(";"))
    assert all(allowed.pop(kind).startswith("'sha256-") for kind in ("style-src", "script-src"))
    assert allowed == {
        "default-src": "'none'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


@pytest.mark.parametrize(
    "uri", ["s3://[bucket/shop/a.mp4", "/in/shop/a.mp4", "//[in/shop/a.mp4", "s3://b/shop/a.mp4?x=1"]
)
def test_any_name_of_a_clip_is_shown_by_its_end(tmp_path: Path, uri: str):
    outcome = ClipOutcome("c0", Status.REJECTED, reason=RejectCode.UNREADABLE, message="broken")
    write_dataset(tmp_path, [Clip("c0", uri)], [], [outcome])
    assert "shop/a.mp4 broken" in Page(rendered(tmp_path)).text


@pytest.mark.parametrize("field", ["video", "message"])
def test_messages_of_rejected_clips_are_escaped(tmp_path: Path, field: str):
    clip = Clip("c0", f"shop/{HOSTILE}.mp4" if field == "video" else "a.mp4")
    message = HOSTILE if field == "message" else "broken"
    outcome = ClipOutcome("c0", Status.REJECTED, reason=RejectCode.UNREADABLE, message=message)
    write_dataset(tmp_path, [clip], [], [outcome])
    page = Page(rendered(tmp_path))
    assert not page.count("script")
    assert not any("onerror" in tag for _, tag in page.tags)
    assert "onerror" in page.text


@pytest.mark.parametrize("field", ["action", "video", "action_class"])
def test_texts_that_came_with_the_videos_are_escaped(tmp_path: Path, field: str):
    clip = Clip("c0", "a.mp4")
    write_dataset(tmp_path, [clip], [{**row(clip, 0), field: HOSTILE}], [kept(clip, 1)])
    page = Page(rendered(tmp_path))
    scripts = [tag.get("type") for name, tag in page.tags if name == "script"]
    assert scripts == ["application/json", "application/json", None]
    assert not any("onerror" in tag for _, tag in page.tags)
    assert "onerror" in page.pairs["class" if field == "action_class" else field][0]


def test_drops_and_rejects_are_listed_with_reason_and_message(tmp_path: Path):
    clips = [Clip("c0", "shop/odd.mp4"), Clip("c1", "shop/still.mp4")]
    outcomes = [
        ClipOutcome("c0", Status.REJECTED, reason=RejectCode.UNREADABLE, message=HOSTILE),
        ClipOutcome("c1", Status.DROPPED, reason=DropReason.STATIC),
    ]
    write_dataset(tmp_path, clips, [], outcomes)
    page = Page(rendered(tmp_path))
    for text in ("unreadable", "static", "shop/odd.mp4", "shop/still.mp4", HOSTILE):
        assert text in page.text
    assert not page.count("script")


def test_a_dataset_without_triplets_has_a_page(tmp_path: Path):
    clip = Clip("c0", "a.mp4")
    write_dataset(tmp_path, [clip], [], [ClipOutcome("c0", Status.DROPPED, reason=DropReason.STATIC)])
    page = Page(rendered(tmp_path))
    assert "No pair was labelled" in page.text
    assert not page.count("script")


def test_given_triplets_have_no_scores_and_no_heat_maps(tmp_path: Path):
    clip = Clip("c0", "a.mp4")
    unknown = dict.fromkeys(("importance", "action_logprob", "action_tokens", "motion", "source_time_s"))
    write_dataset(tmp_path, [clip], [row(clip, 0), {**row(clip, 1), **unknown}], [kept(clip, 2)])
    page = Page(rendered(tmp_path))
    assert page.pairs["heat"][0] is not None
    assert [values[1] for name, values in page.pairs.items() if name in ("heat", "score", "motion")] == [
        None
    ] * 3
    assert page.pairs["times"][1] == [None, 2.0]
    assert "None" not in page.text


def test_a_class_of_blanks_has_a_name_on_the_page(tmp_path: Path):
    clip = Clip("c0", "a.mp4", "  ")
    write_dataset(tmp_path, [clip], [row(clip, 0)], [kept(clip, 1)])
    assert "(blank)" in Page(rendered(tmp_path)).text


def test_the_secrets_of_a_uri_stay_out(tmp_path: Path):
    clip = Clip("c0", "https://user:password@host/films/a.mp4?signature=abc")
    write_dataset(tmp_path, [clip], [row(clip, 0)], [kept(clip, 1)])
    html = rendered(tmp_path)
    assert "films/a.mp4" in html
    assert "password" not in html
    assert "signature" not in html


def test_a_damaged_object_and_an_unwritable_page_are_errors(tmp_path: Path):
    clip = Clip("c0", "a.mp4")
    write_dataset(tmp_path, [clip], [row(clip, 0)], [kept(clip, 1)])
    with pytest.raises(StoreError, match="cannot be written"):
        write_report(str(tmp_path), str(tmp_path / "run.json" / "page.html"))
    Path(unit_uri(str(tmp_path), stable_id("unit"))).write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="`check` says what is damaged"):
        rendered(tmp_path)


DECODED = """
    const images = [...document.querySelectorAll("#cards img")].map((image) => image.decode());
    Promise.all(images).then(() => arguments[0](true), () => arguments[0](false));
"""

# Width of the first frame, width and height of its heat map in heights of the frame, and how far it lies off.
LAID = """
    const heat = document.querySelector("#cards .heat"), frame = heat.closest(".frame");
    const [inner, outer] = [heat, frame].map((one) => one.getBoundingClientRect());
    return [outer.width / outer.height, inner.width / outer.height, inner.height / outer.height,
      inner.left + inner.right - outer.left - outer.right, inner.top - outer.top];
"""


def actions(reader: Reader) -> list[str]:
    return [line.text for line in reader.all("#cards h3")]


def labelled(folder: Path, num: int, **changes: object) -> None:
    """Two alternating classes; pairs with lower numbers have higher scores and less motion."""
    clips = [Clip("c0", "films/run/a.mp4", "run"), Clip("c1", "films/jump/b.mp4", "jump")]
    rows = [
        {**row(clips[index % 2], index, f"move {index}"), "motion": float(index), **changes}
        for index in range(num)
    ]
    ends = [ClipOutcome("c0", Status.KEPT, -(-num // 2)), ClipOutcome("c1", Status.KEPT, num // 2)]
    write_dataset(folder, clips, rows, ends)


def chosen_by_text_class_score_and_order(reader: Reader) -> None:
    assert actions(reader) == [f"move {index}" for index in range(24)]
    reader.find("next").click()
    assert actions(reader) == [f"move {index}" for index in range(24, 30)]
    assert reader.find("page").text == "page 2 of 2"
    reader.find("text").send_keys("MOVE 2")
    assert actions(reader) == ["move 2", *(f"move {index}" for index in range(20, 30))]
    reader.choose("class", "jump (15)")
    assert actions(reader) == [f"move {index}" for index in range(21, 30, 2)]
    assert reader.find("found").text == "5 of 30 pairs"
    reader.choose("order", "most motion first")
    reader.find("least").send_keys("-2.75")
    assert actions(reader) == ["move 25", "move 23", "move 21"]
    reader.find("clear").click()
    assert reader.find("found").text == "30 of 30 pairs"


def looked_at_before_after_and_under_heat(reader: Reader) -> None:
    assert len(reader.all("#cards img")) == 2 * 24
    reader.find("heat").click()
    assert len(reader.all("#cards img.heat")) == 24
    WebDriverWait(reader.browser, 60).until(lambda browser: browser.execute_script(LAID)[0] > 2)
    assert reader.browser.execute_script(LAID) == pytest.approx([2.4, 1, 1, 0, 0], abs=0.02)
    reader.choose("view", "before / after slider")
    frame = reader.all(".frame")[0]
    reader.browser.execute_script("arguments[0].querySelector('[type=range]').focus()", frame)
    ActionChains(reader.browser).send_keys(Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).perform()
    shown = reader.browser.execute_script("return arguments[0].style.getPropertyValue('--cut')", frame)
    assert shown == "2%"
    assert len(reader.all(".frame")) == 24
    assert reader.browser.execute_async_script(DECODED)


@pytest.mark.slow
def test_pairs_are_chosen_and_looked_at_in_a_browser(tmp_path: Path):
    wide = picture(1, (96, 40))
    labelled(tmp_path, 30, source=wide, target=wide)
    rendered(tmp_path, 100)
    with chromium(tmp_path) as browser:
        reader = Reader(browser, tmp_path / "report.html")
        chosen_by_text_class_score_and_order(reader)
        looked_at_before_after_and_under_heat(reader)
        reader.all("[data-text='move 12']")[0].click()
        assert actions(reader) == ["move 12"]
        assert browser.switch_to.active_element.get_attribute("id") == "text"
        reader.all("[data-class='run']")[0].click()
        assert reader.find("found").text == "15 of 30 pairs"
        assert reader.refused() == []


@pytest.mark.slow
def test_words_of_a_dataset_are_text_in_a_browser_and_no_other_script_runs(tmp_path: Path):
    labelled(tmp_path, 2, action=HOSTILE, action_class=HOSTILE, video=HOSTILE)
    page = rendered(tmp_path)
    smuggled = "<script>document.title = 'owned'</script><img src='https://example.com/x.png'></body>"
    (tmp_path / "smuggled.html").write_text(page.replace("</body>", smuggled))
    with chromium(tmp_path) as browser:
        for name, num_refused in (("report.html", 0), ("smuggled.html", 2)):
            reader = Reader(browser, tmp_path / name)
            assert actions(reader) == [HOSTILE] * 2
            assert reader.all(".pair .chip")[0].text == HOSTILE
            assert browser.title != "owned"
            refused = reader.refused()
            assert len(refused) == sum("Content Security Policy" in one for one in refused) == num_refused


def blurred(noise: np.random.Generator) -> dict[str, bytes | None]:
    """A unique frame that compresses like a camera's."""
    data = io.BytesIO()
    blocks = Image.fromarray(noise.integers(0, 256, (12, 20, 3), np.uint8))
    blocks.resize((160, 96), Image.Resampling.BICUBIC).save(data, "JPEG")
    return {"bytes": data.getvalue(), "path": None}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_thousand_pairs_stay_small_and_quick(tmp_path: Path):
    num, noise = 10_000, np.random.default_rng(0)
    clips = [
        Clip(f"c{index}", f"films/{index % 50}/{index}.mp4", f"class {index % 50}") for index in range(num)
    ]
    rows = [row(clip, index, f"move the thing {index}") for index, clip in enumerate(clips)]
    distinct = [{**one, "source": blurred(noise), "target": blurred(noise)} for one in rows]
    write_dataset(tmp_path, clips, distinct, [kept(clip, 1) for clip in clips])
    size = len(rendered(tmp_path, num))
    asked = """
        const begun = performance.now(), text = document.getElementById("text");
        text.value = "thing 77";
        text.dispatchEvent(new Event("input"));
        return document.body.offsetHeight && performance.now() - begun;
    """
    with chromium(tmp_path) as browser:
        begun = time.perf_counter()
        reader = Reader(browser, tmp_path / "report.html")
        assert len(actions(reader)) == 24
        opened_s = time.perf_counter() - begun
        found_ms = browser.execute_script(asked)
        assert reader.find("found").text == "111 of 10,000 pairs"
        assert len(reader.all("*")) < 5000
    print(f"{size / 1e6:.1f} MB, opened in {opened_s:.1f} s, found in {found_ms:.0f} ms")
    assert size < 64 << 20
    assert opened_s < 30
    assert found_ms < 1000
