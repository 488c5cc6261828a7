"""Whatever a stranger's dataset holds, each command gives an answer or an error in words."""

import os
import tarfile
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinescribe.cli import main
from kinescribe.models.checkpoint_files import identify
from kinescribe.schemas.errors import UserError
from tests.forged_datasets import COMMANDS, build_labelled, forged, spoil
from tests.tiny_triplets import LABELLED, write_triplets
from tests.tiny_vlm import tiny_vlm


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forged")


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_forged_dataset_gives_answers_or_errors_in_words(place: Path, data: st.DataObject):
    dataset = forged(place / "inside", data.draw)
    before = getrusage(RUSAGE_SELF).ru_maxrss
    for command in COMMANDS.values():
        with suppress(UserError):
            command(dataset, place / "inside")
    assert getrusage(RUSAGE_SELF).ru_maxrss - before < 1 << 20  # a gibibyte
    assert [path.name for path in place.iterdir()] == ["inside"]
    for tar in (place / "inside").glob("web/*.tar"):
        with tarfile.open(tar) as members:
            assert all("/" not in member and not member.startswith(".") for member in members.getnames())


def refusals(folder: Path) -> int:
    """How many commands refuse the dataset in the folder; the others give an answer."""
    refused = 0
    for command in COMMANDS.values():
        try:
            command(f"{folder}/dataset", folder)
        except UserError:
            refused += 1
    return refused


TEXTS = [
    *(("plan/*.parquet", name) for name in ("clip_id", "uri", "action_class", "unit_id")),
    *(("data/*.parquet", name) for name in ("triplet_id", "clip_id", "video", "action_class", "action")),
]


@pytest.mark.parametrize(("files", "column"), TEXTS)
def test_texts_that_are_not_utf8_end_no_command_without_words(tmp_path: Path, files: str, column: str):
    build_labelled(f"{tmp_path}/dataset")
    for path in (tmp_path / "dataset").glob(files):
        spoil(path, column)
    assert refusals(tmp_path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["run.json", "README.md", "plan/clips.parquet", "data/*.parquet"])
def test_a_file_of_a_dataset_that_is_a_pipe_keeps_no_command_waiting(tmp_path: Path, name: str):
    build_labelled(f"{tmp_path}/dataset")
    path = next((tmp_path / "dataset").glob(name), tmp_path / "dataset" / name)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert refusals(tmp_path)


@pytest.fixture(scope="module")
def other_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lines")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_vlm().save(folder)
    return folder


def command_lines(dataset: str, model: Path, out: Path) -> list[list[str]]:
    train = ["--data", dataset, "--out", f"{out}/run", "--set", "steps=4", "--dry-run"]
    return [
        ["train", "world", *train, "--set", f"init={model}"],
        ["train", "dynamics", *train, "--set", f"init={model}"],
        ["train", "codec", *train, "--set", f"init={model / 'codec'}"],
        ["curate", dataset, "--top-k", "3", "--out", f"{out}/selection.parquet"],
        ["status", dataset],
        ["check", dataset],
        ["report", dataset, "--out", f"{out}/report.html"],
    ]


def test_the_command_lines_accept_a_dataset_that_nobody_forged(other_place: Path, model: Path):
    write_triplets(f"{other_place}/whole", 8, identify(str(model)).codec.id, **LABELLED)
    for arguments in command_lines(f"{other_place}/whole", model, other_place):
        with pytest.raises(SystemExit) as leaving:
            main(arguments)
        assert leaving.value.code == 0, arguments


@given(data=st.data())
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_forged_dataset_gives_no_traceback_on_the_command_line(
    other_place: Path, model: Path, data: st.DataObject
):
    codec = identify(str(model)).codec.id
    dataset = forged(
        other_place / "lines", data.draw, lambda dataset: write_triplets(dataset, 8, codec, **LABELLED)
    )
    for arguments in command_lines(dataset, model, other_place / "lines"):
        with pytest.raises(SystemExit) as leaving:
            main(arguments)
        assert leaving.value.code in (0, 1, 2), arguments
