from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from kinescribe.cli import app, main
from kinescribe.schemas.config import CurateConfig, IngestConfig, LabelConfig, load_config
from kinescribe.schemas.training import TRAININGS
from tests.tiny_dataset import build

CONFIGS: dict[str, list[Any]] = {
    "label": [LabelConfig],
    "plan": [LabelConfig],
    "ingest": [IngestConfig],
    "train": [*TRAININGS.values()],
}


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    assert isinstance(leaving.value.code, int)
    return leaving.value.code


@pytest.mark.parametrize("command", CONFIGS)
def test_the_example_of_an_override_fits_the_command(command: str):
    (option,) = [each for each in get_command(app).commands[command].params if "--set" in each.opts]  # type: ignore[attr-defined]
    key, value = option.help.partition("e.g. ")[2].rstrip(".").split("=")  # type: ignore[attr-defined]
    for kind in CONFIGS[command]:
        section: Any = kind
        for name in key.split("."):
            section = section.model_fields[name].annotation if hasattr(section, "model_fields") else section
        assert value


@pytest.mark.parametrize("old", ["--by=video", "--by video"])
def test_an_old_option_works_with_a_note(old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    build(str(tmp_path / "dataset"), [2, 1])
    out = str(tmp_path / "selection.parquet")
    assert exit_code("curate", str(tmp_path / "dataset"), "--top-k", "1", "--out", out, *old.split()) == 0
    assert "note: --by is now --stratify-by; the next version drops the old name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "note", "error"),
    [
        (("plan", "nowhere", "--for", "d"), "--for is now --dataset", "nowhere"),
        (
            ("imagine", "--source", "nowhere.png", "--steps", "a; b"),
            "--steps is now --actions",
            "nowhere.png",
        ),
    ],
)
def test_other_old_options_too(
    arguments: tuple[str, ...], note: str, error: str, capsys: pytest.CaptureFixture[str]
):
    assert exit_code(*arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"note: {note}")
    assert error in shown


def test_an_unknown_command_gets_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]):
    assert exit_code("lable", "x") == 2
    assert "Did you mean 'label'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("label", "nowhere"),
        ("ingest", "nowhere"),
        ("train", "world", "--data", "x", "--set", "init=embedded-world", "--set", "steps=1"),
        ("imagine", "--source", "nowhere.png", "--action", "a"),
        ("codec", "nowhere"),
        ("demo",),
        ("evaluate", "aurora", "--data", "nowhere"),
        ("export", "hub", "nowhere"),
        ("export", "webdataset", "nowhere"),
    ],
)
def test_a_file_as_the_folder_is_refused_before_anything_starts(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "out").write_text("mine")
    assert exit_code(*arguments, "--out", str(tmp_path / "out")) == 2
    assert f"out {tmp_path}/out: {tmp_path}/out is a file; name a folder" in capsys.readouterr().err


def test_curate_takes_the_old_key_in_python():
    with pytest.warns(FutureWarning, match="by is now stratify_by; the next version drops the old name"):
        old = CurateConfig(top_k=1, by="video")  # type: ignore[call-arg]
    with pytest.warns(FutureWarning):
        assert load_config(CurateConfig, None, ["top_k=1", "by=video"]) == old
    assert old == CurateConfig(top_k=1, stratify_by="video")
    assert CurateConfig(top_k=1, stratify_by="video").model_dump()["by"] == "video"
