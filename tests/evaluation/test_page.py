import base64
import hashlib
from pathlib import Path

import pytest

from evaluation.page import render, write_page
from schemas.errors import ConfigError


def test_a_page_allows_its_own_style_and_script_and_no_other():
    page = render("study", study={"id": "x", "criteria": {}, "questions": []})
    for name in ("study.css", "study.js"):
        text = (Path("evaluation") / name).read_text()
        assert text in page
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in page
    assert "default-src 'none'" in page


def test_pages_of_one_look_share_style_and_script():
    page = render("study", look="report", study={})
    assert (Path("evaluation") / "report.css").read_text() in page
    assert (Path("evaluation") / "report.js").read_text() in page


def test_words_cannot_leave_the_data_they_stand_in():
    page = render("study", study={"id": "</script><b>", "criteria": {}, "questions": []})
    assert "</script><b>" not in page


def test_a_page_that_cannot_be_written_is_said_in_words(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--out"):
        write_page(tmp_path / "file" / "page.html", "")
