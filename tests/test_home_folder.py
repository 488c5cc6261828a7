from pathlib import Path

import pytest

from kinescribe.cli import main


def test_a_home_that_the_shell_left_in_an_option_is_not_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        main(["simulate", "clips", "--out=~/clips", "--num", "1"])
    assert (tmp_path / "home" / "clips" / "truth.jsonl").is_file()
    assert not (tmp_path / "~").exists()
    with pytest.raises(SystemExit, match="2"):
        main(["label", "~/none", "--out=~/dataset"])
    assert f"{tmp_path}/home/none does not exist" in capsys.readouterr().err
