import base64
import hashlib
from pathlib import Path

import pytest

from kinescribe.reports.page import OWN_PAGE, render, write_page
from kinescribe.schemas.errors import ConfigError, StoreError
from kinescribe.storage import objects

OWN = OWN_PAGE.decode()


def test_a_page_allows_its_own_style_and_script_and_no_other():
    page = render(
        "human_study", package="kinescribe.evaluation", study={"id": "x", "criteria": {}, "questions": []}
    )
    for name in ("human_study.css", "human_study.js"):
        text = (Path("kinescribe/evaluation") / name).read_text()
        assert text in page
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in page
    assert "default-src 'none'" in page


def test_pages_of_one_look_share_style_and_script():
    page = render("human_study", package="kinescribe.evaluation", look="report", study={})
    assert (Path("kinescribe/reports") / "report.css").read_text() in page
    assert (Path("kinescribe/reports") / "report.js").read_text() in page


def test_words_cannot_leave_the_data_they_stand_in():
    page = render(
        "human_study",
        package="kinescribe.evaluation",
        study={"id": "</script><b>", "criteria": {}, "questions": []},
    )
    assert "</script><b>" not in page


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"page\.html cannot be written"):
        write_page(str(tmp_path / "file" / "page.html"), "")


def test_a_page_may_be_in_an_object_store():
    write_page("memory://pages/page.html", f"{OWN}é")
    assert objects.read_bytes("memory://pages/page.html").decode() == f"{OWN}é"


def test_a_page_is_replaced_in_one_step(tmp_path: Path):
    page, linked = tmp_path / "page.html", tmp_path / "linked.html"
    write_page(str(page), f"{OWN}old")
    linked.hardlink_to(page)
    write_page(str(page), f"{OWN}new")
    assert (page.read_text(), linked.read_text()) == (f"{OWN}new", f"{OWN}old")


@pytest.mark.parametrize("name", ["run.json", "data/unit.parquet", "page", ""])
def test_a_page_needs_a_name_that_ends_in_html(name: str):
    with pytest.raises(ConfigError, match=rf"out '{name}'.*ends in \.html"):
        write_page(name, "")


def test_another_html_file_is_not_replaced(tmp_path: Path):
    page = tmp_path / "page.html"
    page.write_text("<h1>My thesis</h1>")
    with pytest.raises(ConfigError, match=r"page\.html is another kind of file; remove it, or name another"):
        write_page(str(page), "")
    assert page.read_text() == "<h1>My thesis</h1>"
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.html is a folder; name a file"):
        write_page(str(tmp_path / "folder.html"), "")


def test_every_page_has_the_mark_by_which_it_may_be_replaced():
    page = render(
        "human_study", package="kinescribe.evaluation", study={"id": "x", "criteria": {}, "questions": []}
    )
    assert OWN in page
