"""The library's own client against a small server that speaks the hub's API over HTTP."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from kinescribe.models.checkpoint_files import codec_folder, identify, model_folder, weight_bytes
from kinescribe.models.hub import FILES, HubModel, hub_folder, hub_model
from kinescribe.models.registry import load, load_model
from kinescribe.schemas.errors import ModelError
from tests.hub_server import COMMIT, HubServer, asked_instead
from tests.tiny_chat import tiny_chat
from tests.tiny_edit import tiny_edit
from tests.tiny_vlm import tiny_vlm

OURS = f"me/ours@{COMMIT}"


class Pickled:
    """A file that must not be read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.abort, ("read",)


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("repositories")
    tiny_vlm().save(root / "ours")
    (root / "ours" / "pytorch_model.bin").write_bytes(pickle.dumps(Pickled()))
    (root / "ours" / "codec" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Pickled()))
    (root / "ours" / "modeling_ours.py").write_text("raise SystemExit('run')")
    chat = tiny_chat("qwen", root / "chat")
    return {"me/ours": root / "ours", "qwen/chat": chat, "me/edit": tiny_edit(root / "edit")}


@pytest.fixture
def hub(repositories: dict[str, Path], tmp_path: Path) -> Iterator[HubServer]:
    with asked_instead(HubServer(repositories), tmp_path / "cache") as server:
        yield server


@pytest.mark.parametrize(
    "name",
    [
        f"model@http://host/{COMMIT}",
        f"me/ours@{COMMIT[:-1]}",
        f"me/ours@{COMMIT.upper()}",
        f"./me/ours@{COMMIT}",
        f"/me/ours@{COMMIT}",
        f"../ours@{COMMIT}",
        f"ours@{COMMIT}",
        f"me/ours@{COMMIT}\n",
        "me/ours@main",
        "me/ours",
    ],
)
def test_names_of_servers_and_folders_are_not_hub_models(name: str):
    assert hub_model(name) is None
    assert hub_model(OURS) == HubModel("me/ours", COMMIT)


def test_a_hubs_model_is_that_of_its_files(hub: HubServer, repositories: dict[str, Path]):
    local = str(repositories["me/ours"])
    assert identify(OURS) == identify(local)
    assert weight_bytes(OURS) == weight_bytes(local) > 0
    assert codec_folder(OURS).parent == model_folder(OURS) != repositories["me/ours"]
    assert load_model(OURS).fingerprint == load_model(local).fingerprint


def test_no_pickle_and_no_code_is_fetched(hub: HubServer):
    folder = model_folder(OURS)
    fetched = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert fetched == {".json", ".safetensors"}
    assert not [path for path in hub.asked if path.endswith((".bin", ".py"))]
    assert not [pattern for pattern in FILES if pattern.endswith((".bin", ".py", "*"))]


def test_any_kind_of_model_may_be_a_hubs(hub: HubServer, repositories: dict[str, Path]):
    chat, edit = f"qwen/chat@{COMMIT}", f"me/edit@{COMMIT}"
    assert identify(chat).fingerprint == identify(str(repositories["qwen/chat"])).fingerprint
    assert load(chat, "dynamics").codec_id is None
    assert codec_folder(chat, OURS) == model_folder(OURS) / "codec"
    assert load(edit, "world").resolution == 32


def test_a_downloaded_model_is_not_requested_again(hub: HubServer, monkeypatch: pytest.MonkeyPatch):
    before = identify(OURS)
    hub.asked.clear()
    hub_folder.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert identify(OURS) == before
    assert hub.asked == []


def test_a_download_that_another_program_began_is_not_taken_for_whole(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
):
    folder = model_folder(OURS)
    hub_folder.cache_clear()
    (folder / "config.json").unlink()
    shutil.rmtree(folder.parents[1] / "trees")
    from huggingface_hub import _tree_cache

    _tree_cache._IN_MEMORY_TREE_CACHE.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="connect to the hub, or name a folder"):
        model_folder(OURS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert (model_folder(OURS) / "config.json").is_file()


@pytest.mark.parametrize("name", ["me/ours", "me/ours@", "me/ours@main"])
def test_a_branch_gets_the_commit_that_it_is_now(hub: HubServer, name: str):
    with pytest.raises(ModelError, match=f"may change; name its current commit, {OURS}"):
        model_folder(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"me/absent@{COMMIT}", "the hub has no such repository, or it is private; .* HF_TOKEN"),
        ("me/absent", "no such folder, and a hub's model is me/absent@COMMIT, .* has no such repository"),
        (f"me/ours@{'f' * 40}", "the repository has no such revision"),
        ("me/ours@v2", "the repository has no such revision"),
        (f"me/a--b@{COMMIT}", "connect to the hub, or name a folder"),
    ],
)
def test_the_error_for_a_model_missing_on_the_hub_has_a_remedy(hub: HubServer, name: str, message: str):
    with pytest.raises(ModelError, match=message):
        identify(name)


def test_a_gated_model_asks_for_consent_and_a_token(hub: HubServer):
    hub.gated = frozenset({"me/ours"})
    with pytest.raises(ModelError, match=r"it is gated; accept its terms on its page, and give a token"):
        model_folder(OURS)


def test_without_a_network_a_model_that_is_not_cached_is_refused(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in (OURS, "me/ours@main"):
        with pytest.raises(ModelError, match="connect to the hub, or name a folder that `hf download"):
            model_folder(name)
    assert hub.asked == []


def test_a_folder_of_the_same_name_is_refused_and_a_path_to_it_is_not(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path(OURS).mkdir(parents=True)
    with pytest.raises(ModelError, match=r"write \./me/ours@"):
        model_folder(OURS)
    assert model_folder(f"./{OURS}") == Path(OURS)
    assert hub.asked == []


def test_a_mistyped_folder_is_not_looked_up_on_the_hub(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    with pytest.raises(ModelError, match="no model 'runs/mien': give embedded"):
        model_folder("runs/mien")
    assert hub.asked == []


def test_another_machine_resolves_the_same_string(hub: HubServer, tmp_path: Path):
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "another")}
    environment["HF_HUB_OFFLINE"] = "0"
    command = [sys.executable, "-m", "kinescribe", "models", OURS, "--json"]
    shown = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    (model,) = json.loads(shown.stdout)
    assert model["where"].startswith(str(tmp_path / "another"))
    assert model["codec"] == identify(OURS).codec.id
