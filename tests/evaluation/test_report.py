import io
import math
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from evaluation.contact_sheet import Step
from evaluation.report import write_report
from schemas.clips import Clip, WorkUnit
from schemas.dataset import triplet_schema
from schemas.errors import ConfigError, DatasetError
from schemas.outcomes import ClipOutcome, DropReason, RejectCode, Status
from storage.run import Run, bind, write_plan
from storage.shards import write_unit

GRID = (4, 4)
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> dict[str, bytes | None]:
    data = io.BytesIO()
    Image.new("RGB", size, (seed * 37 % 256, 90, 140)).save(data, "JPEG")
    return {"bytes": data.getvalue(), "path": None}


def row(clip: Clip, index: int, action: str = "move the red ball left") -> dict[str, object]:
    return {
        "triplet_id": f"{clip.clip_id}-{index:04d}",
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
    folder: Path, clips: Sequence[Clip], rows: Sequence[dict[str, object]], outcomes: Sequence[ClipOutcome]
) -> None:
    unit = WorkUnit("unit0", tuple(clips))
    bind(str(folder), Run("0", {"dynamics": "embedded"}, {"dynamics": "m"}, "vq-x", GRID, "p"))
    write_plan(str(folder), [unit])
    write_unit(
        str(folder), unit, pa.Table.from_pylist(list(rows), schema=triplet_schema("vq-x", GRID)), outcomes
    )


def rendered(folder: Path, sample: int = 24) -> str:
    write_report(str(folder), folder / "report.html", sample)
    return (folder / "report.html").read_text()


def kept(clip: Clip, num: int) -> ClipOutcome:
    return ClipOutcome(clip.clip_id, Status.KEPT, num)


def test_the_page_shows_each_sampled_pair_with_three_pictures(tmp_path: Path):
    clip = Clip("c0", "videos/juggle/a.mp4", "juggle")
    write_dataset(tmp_path, [clip], [row(clip, index) for index in range(5)], [kept(clip, 5)])
    page = Page(rendered(tmp_path, sample=3))
    assert page.count("article") == 3
    assert page.count("img") == 9
    assert "juggle/a.mp4" in page.text


def test_what_was_imagined_is_shown_with_its_source_its_best_and_every_score(tmp_path: Path):
    clip = Clip("c0", "a.mp4")
    write_dataset(tmp_path, [clip], [row(clip, 0)], [kept(clip, 1)])
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    step = Step("wave <b>hands</b>", images[0], images[1:], [-3.25, -0.01], 1)
    write_report(str(tmp_path), tmp_path / "report.html", imagined=[step])
    page = Page((tmp_path / "report.html").read_text())
    assert page.count("img") == 3 + 4
    assert page.count("b") == 0
    assert all(text in page.text for text in ("wave <b>hands</b>", "-3.2", "0.0"))


def test_the_sample_is_the_same_for_the_same_dataset(tmp_path: Path):
    clip = Clip("c0", "a.mp4")
    write_dataset(tmp_path, [clip], [row(clip, index) for index in range(9)], [kept(clip, 9)])
    assert rendered(tmp_path, 4) == rendered(tmp_path, 4)


def test_nothing_is_loaded_from_elsewhere_and_no_script_runs(tmp_path: Path):
    clip = Clip("c0", "a.mp4")
    write_dataset(tmp_path, [clip], [row(clip, 0)], [kept(clip, 1)])
    page = Page(rendered(tmp_path))
    assert not page.count("script")
    assert not page.count("link")
    assert all(
        str(value).startswith("data:") for _, tag in page.tags for key, value in tag.items() if key == "src"
    )
    policy = next(tag["content"] for name, tag in page.tags if name == "meta" and "http-equiv" in tag)
    assert policy is not None
    allowed = dict(part.split(maxsplit=1) for part in policy.split(";"))
    style = allowed.pop("style-src")
    assert style.startswith("'sha256-")
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
def test_what_is_said_of_a_rejected_clip_is_escaped(tmp_path: Path, field: str):
    clip = Clip("c0", f"shop/{HOSTILE}.mp4" if field == "video" else "a.mp4")
    message = HOSTILE if field == "message" else "broken"
    outcome = ClipOutcome("c0", Status.REJECTED, reason=RejectCode.UNREADABLE, message=message)
    write_dataset(tmp_path, [clip], [], [outcome])
    page = Page(rendered(tmp_path))
    assert not page.count("script")
    assert not any("onerror" in tag for _, tag in page.tags)
    assert "onerror" in page.text


@pytest.mark.parametrize("field", ["action", "video", "action_class"])
def test_what_came_with_the_videos_is_escaped(tmp_path: Path, field: str):
    clip = Clip("c0", "a.mp4")
    write_dataset(tmp_path, [clip], [{**row(clip, 0), field: HOSTILE}], [kept(clip, 1)])
    page = Page(rendered(tmp_path))
    assert not page.count("script")
    assert not any("onerror" in tag for _, tag in page.tags)
    assert "onerror" in page.text


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
    assert not page.count("article")


def test_given_triplets_have_no_scores_and_no_heat_maps(tmp_path: Path):
    clip = Clip("c0", "a.mp4")
    unknown = dict.fromkeys(("importance", "action_logprob", "action_tokens", "motion", "source_time_s"))
    write_dataset(tmp_path, [clip], [row(clip, 0), {**row(clip, 1), **unknown}], [kept(clip, 2)])
    page = Page(rendered(tmp_path))
    assert page.count("article") == 2
    assert page.count("img") == 5
    assert "None" not in page.text


def test_the_secrets_of_a_uri_stay_out(tmp_path: Path):
    clip = Clip("c0", "https://user:password@host/films/a.mp4?signature=abc")
    write_dataset(tmp_path, [clip], [row(clip, 0)], [kept(clip, 1)])
    html = rendered(tmp_path)
    assert "films/a.mp4" in html
    assert "password" not in html
    assert "signature" not in html


def test_a_damaged_object_and_a_page_that_cannot_be_written_are_said_in_words(tmp_path: Path):
    clip = Clip("c0", "a.mp4")
    write_dataset(tmp_path, [clip], [row(clip, 0)], [kept(clip, 1)])
    with pytest.raises(ConfigError, match="another file"):
        write_report(str(tmp_path), tmp_path)
    (tmp_path / "data" / "unit0.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="`check` says what is damaged"):
        rendered(tmp_path)
