"""Files, links and numbers that a stranger put into a model's folder."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kinescribe.models.checkpoint_files import WEIGHTS, identify
from kinescribe.models.registry import load
from kinescribe.schemas.errors import ModelError
from tests.tiny_chat import tiny_chat
from tests.tiny_vlm import tiny_vlm

CONFIG = "tokenizer_config.json"
SECRET = "the-secret"
DIGEST = "0" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_vlm().save(tmp_path / "model")
    return tmp_path / "model"


def moved(folder: Path, name: str, target: Path) -> None:
    """The file is at `target`, and a link in its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    (folder / name).rename(target)
    (folder / name).symlink_to(target)


@pytest.mark.parametrize("name", [CONFIG, "extra.json", "extra.jinja", "codec/extra.json", "merges.txt"])
@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/absent"),
        lambda path: path.symlink_to(path.name),
    ],
    ids=["a pipe", "a folder", "a device", "a dangling link", "a loop"],
)
def test_what_is_no_file_is_refused_and_not_waited_for(
    folder: Path, name: str, make: Callable[[Path], object]
):
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    with pytest.raises(ModelError, match=rf"{name} (is not a file|cannot be read).*remove it"):
        identify(str(folder))


@pytest.mark.parametrize("name", [CONFIG, "chat_template.jinja", "config.json"])
def test_a_link_to_a_file_of_another_kind_is_refused_and_its_text_not_repeated(
    folder: Path, tmp_path: Path, name: str
):
    (tmp_path / "credentials.json").write_text(json.dumps({"first_code_id": 12, "token": SECRET}))
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "credentials.json")
    with pytest.raises(ModelError, match=r"is a link to .*; replace it by a copy") as refused:
        identify(str(folder))
    assert SECRET not in str(refused.value)


def test_links_into_a_hubs_cache_or_to_another_models_folder_are_followed(folder: Path, tmp_path: Path):
    before = identify(str(folder))
    blobs = tmp_path / "hub" / "models--me--ours" / "blobs"
    moved(folder, CONFIG, blobs / ("a1" * 20))
    moved(folder, WEIGHTS, blobs / DIGEST)
    moved(folder, "config.json", tmp_path / "another" / "config.json")
    assert identify(str(folder)) == before
    assert load(str(folder), "dynamics").does


def test_a_part_in_a_linked_folder_is_fingerprinted(folder: Path, tmp_path: Path):
    before = identify(str(folder)).fingerprint
    moved(folder, "codec", tmp_path / "codec")
    assert identify(str(folder)).fingerprint == before
    config = tmp_path / "codec" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert identify(str(folder)).fingerprint != before


def test_a_link_to_a_folder_above_or_to_the_root_is_not_walked(folder: Path):
    before = identify(str(folder))
    (folder / "again").symlink_to(".")
    (folder / "root").symlink_to("/")
    assert identify(str(folder)).codec == before.codec


def test_a_text_file_larger_than_any_models_is_refused(folder: Path):
    with (folder / "config.json").open("r+b") as file:
        file.truncate(65 << 20)
    with pytest.raises(ModelError, match=r"config\.json has 68,157,440 bytes"):
        identify(str(folder))


@pytest.mark.parametrize("file", ["config.json", "codec/config.json"])
@pytest.mark.parametrize("key", ["vocab_size", "num_hidden_layers", "block_out_channels", "sample_size"])
@pytest.mark.parametrize("number", [10**9, -(10**12), 10**400], ids=["large", "negative", "long"])
def test_an_absurd_number_in_a_configuration_is_refused(folder: Path, file: str, key: str, number: int):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: [number]}))
    with pytest.raises(ModelError, match=rf"{file}: {key} must be at most 16,777,216, got"):
        identify(str(folder))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 100_000, "[]", "3", "", "\0"])
def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path, text: str):
    chat = tiny_chat("llava", tmp_path)
    (chat / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json is damaged: ") as refused:
        identify(str(chat))
    assert len(str(refused.value)) < 300 + len(str(chat))
