import subprocess
import sys
from pathlib import Path

import pytest

from kinescribe.preconditions import EXTRAS, require_extras, require_file, require_folder
from kinescribe.schemas.errors import ConfigError
from tests.tiny_dataset import build
from tests.tiny_vlm import tiny_vlm
from tests.videos import pan, write_video

BLOCKED = sorted({*(package for packages in EXTRAS.values() for package in packages), "sklearn"})


def without_extras(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a Python where the packages of all extras are missing."""
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
        "from kinescribe.cli import main\n"
        "main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "a.mp4", pan(30, step=2))
    build(str(tmp_path / "dataset"), [2, 1])
    tiny_vlm().save(tmp_path / "model")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("label", "{}/clips", "--out", "{}/new", "--dynamics", "{}/model", "--dry-run"),
        ("curate", "{}/dataset", "--top-k", "1", "--out", "{}/selection.parquet"),
        ("report", "{}/dataset", "--out", "{}/report.html"),
        ("evaluate", "--help"),
    ],
)
def test_labelling_curating_and_reports_need_no_extra(arguments: tuple[str, ...], folder: Path):
    done = without_extras(*(argument.format(folder) for argument in arguments))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (
                "train",
                "world",
                "--data",
                "x",
                "--out",
                "y",
                "--set",
                "init=embedded-world",
                "--set",
                "steps=1",
            ),
            "train needs deepspeed, peft, tensorboard, which are not installed; "
            "pip install 'kinescribe[train]'",
        ),
        (("evaluate", "labels", "x", "--truth", "y"), "pip install 'kinescribe[evaluate]'"),
        (
            ("label", "x", "--out", "y", "--set", "quality=[text]"),
            "text in quality needs rapidocr, which is not installed; pip install 'kinescribe[text]'",
        ),
        (
            ("evaluate", "world", "--plot", "x.png"),
            "--plot needs matplotlib, which is not installed; pip install 'kinescribe[evaluate]'",
        ),
        (
            ("demo",),
            "demo needs deepspeed, peft, tensorboard, bert-score, matplotlib, rouge-score, sacrebleu, which "
            "are not installed; pip install 'kinescribe[train,evaluate]'",
        ),
    ],
)
def test_a_command_says_which_extra_is_missing(arguments: tuple[str, ...], said: str):
    done = without_extras(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr


def test_an_extra_that_is_installed_is_not_missed():
    require_extras("train", *EXTRAS)


def test_a_folder_may_be_new_there_or_on_a_store(tmp_path: Path):
    for out in (tmp_path, tmp_path / "new" / "folder", f"file://{tmp_path}", "s3://bucket/folder"):
        require_folder("--out", str(out))


def test_a_file_above_a_folder_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for out in (f"{tmp_path}/file", f"{tmp_path}/file/dataset", f"file://{tmp_path}/file"):
        with pytest.raises(ConfigError, match=f"--out {out}: {tmp_path}/file is a file; name a folder"):
            require_folder("--out", out)
    (tmp_path / "a file").write_text("")
    with pytest.raises(ConfigError, match="/a file is a file; name a folder"):
        require_folder("--out", (tmp_path / "a file").as_uri())


def test_a_folder_is_not_a_file_to_write(tmp_path: Path):
    (tmp_path / "page.html").write_text("<p>mine")
    require_file("--out", str(tmp_path / "new.html"))
    require_file("--out", str(tmp_path / "page.html"))
    require_file("--out", "s3://bucket/page.html")
    with pytest.raises(ConfigError, match="this is a folder; name a file"):
        require_file("--out", str(tmp_path))
