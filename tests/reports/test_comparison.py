from collections.abc import Sequence
from pathlib import Path

import pytest

from kinescribe.labeling.units import plan_units
from kinescribe.reports.comparison import OTHER_CLIPS, write_comparison
from kinescribe.reports.report import write_report
from kinescribe.schemas.errors import ConfigError, DatasetError
from kinescribe.storage.plan import write_plan
from kinescribe.storage.run import bind
from kinescribe.storage.shards import unit_uri, write_unit
from tests.browser import Reader, chromium
from tests.tiny_dataset import build, clip, outcome, row, run_of, table


def write(
    folder: Path, actions: Sequence[str], given: dict[str, object] | None = None, **config: object
) -> str:
    """One clip whose pairs have these actions and the `given` values; returns the id of its unit."""
    clips = [clip("a")]
    run = run_of(clips, **config)
    (unit,) = plan_units(clips, 1, run.fingerprint)
    bind(str(folder), run)
    write_plan(str(folder), [unit])
    rows = [
        {**row(clips[0], index), "action": action, **(given or {})} for index, action in enumerate(actions)
    ]
    write_unit(str(folder), unit, table(rows), [outcome(clips[0], len(rows))])
    return unit.unit_id


def compared(first: Path, second: Path, sample: int = 100) -> str:
    out = first.parent / "page.html"
    write_comparison(str(first), str(second), str(out), sample)
    return out.read_text()


def test_the_page_shows_differences_in_counts_settings_and_actions(tmp_path: Path):
    write(tmp_path / "one", ["jump", "run", "sit"], micro=1)
    write(tmp_path / "other", ["jump", "walk", "stand", "lie"], micro=2)
    page = compared(tmp_path / "one", tmp_path / "other")
    assert "<strong>3</strong> pairs are in both; the actions of <strong>2</strong> differ" in page
    assert "<th>config.micro</th><td><code>1</code></td><td><code>2</code></td>" in page
    assert (
        '<td>triplets</td><td class="number">3</td><td class="number">4</td><td class="number muted">+1'
        in page
    )
    assert '"walk"' in page
    assert '"lie"' not in page


def test_pairs_without_a_class_are_counted_beside_those_with_one(tmp_path: Path):
    write(tmp_path / "one", ["jump", "run"], {"action_class": None})
    write(tmp_path / "other", ["jump", "walk", "stand"])
    page = " ".join(compared(tmp_path / "one", tmp_path / "other").split())
    assert '<td>no class</td><td class="number">2</td><td class="number">0</td>' in page
    write(tmp_path / "third", ["jump"], micro=3)
    assert "no class" not in compared(tmp_path / "other", tmp_path / "third")


def test_a_dataset_is_not_compared_with_itself(tmp_path: Path):
    write(tmp_path / "one", ["jump"])
    for spelling in (tmp_path / "one", tmp_path / "nowhere" / ".." / "one", f"file://{tmp_path}/one/"):
        with pytest.raises(ConfigError, match="are the same dataset; name two datasets to compare"):
            write_comparison(tmp_path / "one", spelling, str(tmp_path / "page.html"), 10)
    assert not (tmp_path / "page.html").exists()


def test_two_that_say_the_same_or_share_nothing_have_a_page(tmp_path: Path):
    write(tmp_path / "one", ["jump"])
    write(tmp_path / "other", ["jump"])
    build(str(tmp_path / "third"), [2])
    assert "All shared pairs have the same action" in compared(tmp_path / "one", tmp_path / "other")
    assert "They share no pair" in compared(tmp_path / "one", tmp_path / "third")


def test_other_clips_are_said_in_words_and_not_as_a_digest(tmp_path: Path):
    write(tmp_path / "one", ["jump"])
    build(str(tmp_path / "third"), [2])
    page = compared(tmp_path / "one", tmp_path / "third")
    assert f"<th>clips</th><td><code>these</code></td><td><code>{OTHER_CLIPS}" in page
    assert "<th>plan</th>" not in page


def test_the_page_names_the_dataset_without_scores(tmp_path: Path):
    write(tmp_path / "one", ["jump"])
    write(tmp_path / "other", ["jump"], {"action_logprob": None})
    page = compared(tmp_path / "one", tmp_path / "other")
    assert "Not drawn: <bdi>other</bdi> has no score." in page
    assert "Bars are scaled to the highest bar of each dataset" in page


def test_folders_with_the_same_name_are_shown_by_their_paths(tmp_path: Path):
    for side in ("a", "b"):
        write(tmp_path / side / "dataset", [f"jump {side}"])
    page = compared(tmp_path / "a/dataset", tmp_path / "b/dataset")
    assert f"{tmp_path}/a/dataset" in page
    assert f"{tmp_path}/b/dataset" in page


def test_the_damaged_dataset_is_named(tmp_path: Path):
    write(tmp_path / "one", ["jump"])
    unit = write(tmp_path / "other", ["run"])
    Path(unit_uri(str(tmp_path / "other"), unit)).write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="other"):
        compared(tmp_path / "one", tmp_path / "other")


@pytest.mark.slow
def test_both_actions_of_a_pair_stand_below_it_in_a_browser(tmp_path: Path):
    write(tmp_path / "one", ["jump", "run <b>fast</b>", "sit"])
    write(tmp_path / "other", ["jump", "walk", "stand"])
    compared(tmp_path / "one", tmp_path / "other")
    with chromium(tmp_path) as browser:
        reader = Reader(browser, tmp_path / "page.html")
        reader.find("text").send_keys("walk")
        assert [line.text for line in reader.all(".pair h3")] == ["run <b>fast</b>", "walk"]
        assert reader.refused() == []


# How far the page, or a table in its frame, or a word in its cell reaches beyond the place it has.
BEYOND = """
    const boxes = [document.documentElement, ...document.querySelectorAll(".scroll, .pair")];
    return Math.max(...boxes.map((box) => box.scrollWidth - box.clientWidth));
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_long_names_keep_to_their_place_on_a_screen_and_on_a_phone(tmp_path: Path, width: int):
    given: dict[str, object] = {"action_class": "x" * 300, "video": f"films/{'y' * 200}.mp4"}
    write(tmp_path / "one", ["jump" * 1000], given)
    write(tmp_path / "other", ["z" * 3000], given, micro=2)
    compared(tmp_path / "one", tmp_path / "other")
    write_report(str(tmp_path / "one"), str(tmp_path / "report.html"))
    with chromium(tmp_path) as browser:
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        for name in ("page.html", "report.html"):
            reader = Reader(browser, tmp_path / name)
            assert browser.execute_script(BEYOND) == 0
            assert max(line.size["height"] for line in reader.all(".pair h3")) < 200
