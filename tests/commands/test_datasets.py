import json
import re
from pathlib import Path

import pytest

import kinescribe
from kinescribe.cli import main
from tests.filmed_dataset import Rows, clip_of, film
from tests.videos import pan, write_video


def exit_code(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as leaving:
        main(list(arguments))
    return leaving.value.code


def filmed(folder: Path, shift_s: float = 0.0) -> str:
    def shift(rows: Rows) -> None:
        for row in rows:
            row["source_time_s"] += shift_s

    return film(folder / "dataset", [clip_of(str(write_video(folder / "clip.mp4", pan(90))))], shift)


def test_check_with_frames_of_a_right_dataset_is_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    dataset = filmed(tmp_path)
    assert exit_code("check", dataset, "--frames", "2", "--root", str(tmp_path)) == 0
    shown = capsys.readouterr().out
    counts = dict(re.split(r"  +", line.strip()) for line in shown.splitlines() if "  " in line.strip())
    assert (counts["rows compared"], counts["differ"]) == ("2", "0")
    assert counts["videos read below"] == str(tmp_path)


def test_check_with_frames_that_differ_exits_with_1_and_names_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    dataset = filmed(tmp_path, shift_s=0.1)
    assert exit_code("check", dataset, "--frames", "9", "--root", str(tmp_path), "--json") == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["ok"], len(result["problems"])) == (False, 1)
    frames = result["frames"]
    assert frames["differ"] == frames["rows"] >= 3
    first = frames["differing"][0]
    assert (first["video"], first["frame"]) == (str(tmp_path / "clip.mp4"), "source")
    assert first["seen"].startswith("the frame at ")
    assert exit_code("check", dataset) == 0


def test_check_says_which_folder_to_name_if_it_may_read_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    dataset = filmed(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert exit_code("check", dataset, "--frames", "2") == 1
    assert f"add --root {tmp_path}" in capsys.readouterr().out


def test_a_root_without_frames_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert exit_code("check", str(tmp_path), "--root", "/clips") != 0
    assert "give --frames" in capsys.readouterr().err


def test_python_compares_frames_as_well(tmp_path: Path):
    calls: list[tuple[int, int]] = []
    result = kinescribe.check(
        filmed(tmp_path),
        frames=2,
        seed=3,
        roots=tmp_path,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert result.ok
    assert result.frames
    assert (result.frames.right, calls) == (2, [(1, 2), (2, 2)])
