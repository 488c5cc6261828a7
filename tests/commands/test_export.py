from pathlib import Path

import pytest

from kinescribe.cli import main
from tests.tiny_dataset import build


@pytest.mark.parametrize(("layout", "file"), [("webdataset", "000000.tar"), ("hub", "README.md")])
def test_an_export_prints_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str, file: str
):
    build(str(tmp_path / "dataset"), [1])
    with pytest.raises(SystemExit) as leaving:
        main(["export", layout, str(tmp_path / "dataset"), "--out", str(tmp_path / "out")])
    assert leaving.value.code == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    assert (tmp_path / "out" / file).is_file()


@pytest.mark.parametrize("layout", ["webdataset", "hub"])
def test_an_export_of_an_unfinished_dataset_says_what_is_not_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str
):
    build(str(tmp_path / "dataset"), [1, 1, 1], pending=1)
    with pytest.raises(SystemExit) as leaving:
        main(["export", layout, str(tmp_path / "dataset"), "--out", str(tmp_path / "out")])
    assert leaving.value.code == 0
    assert "1 of 3 clips are pending, and not in" in capsys.readouterr().err
