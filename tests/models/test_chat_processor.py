"""What prepares a chat model's text and images, with what is installed."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig
from transformers.utils.import_utils import is_torchvision_available

from kinescribe.models.chat_processor import image_backend, images_only
from kinescribe.models.chat_vlm import ChatVLM
from kinescribe.models.checkpoint_files import identify
from kinescribe.schemas.errors import ModelError
from tests.tiny_architectures import TEMPLATE_LESS, WITH_TORCHVISION, WITHOUT_TORCHVISION, tiny_architecture
from tests.tiny_chat import CHATS, tiny_chat
from tests.vllm_server import ENVIRONMENT, require_vllm

EVERYWHERE = dict.fromkeys(CHATS, tiny_chat) | dict.fromkeys(WITHOUT_TORCHVISION, tiny_architecture)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    write = EVERYWHERE | dict.fromkeys((*WITH_TORCHVISION, *TEMPLATE_LESS), tiny_architecture)
    return {name: make(name, tmp_path_factory.mktemp(name)) for name, make in write.items()}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_images_are_prepared_by_pillow(folders: dict[str, Path], name: str):
    processor = images_only(AutoConfig.from_pretrained(folders[name]), folders[name])
    assert type(processor.image_processor).__name__.endswith("Pil")
    assert image_backend(folders[name]) == "pil"
    assert " with " not in identify(str(folders[name])).fingerprint


@pytest.mark.parametrize("name", WITH_TORCHVISION)
def test_a_model_that_needs_torchvision_says_so_in_one_line(folders: dict[str, Path], name: str):
    assert not is_torchvision_available(), "it would be used for this model"
    with pytest.raises(ModelError, match="with torchvision, which isn't installed; install") as refused:
        ChatVLM.load(folders[name])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", TEMPLATE_LESS)
def test_a_model_that_was_not_made_for_chats_says_so_in_one_line(folders: dict[str, Path], name: str):
    with pytest.raises(ModelError, match=r"has no chat template; .* or name a chat model") as refused:
        ChatVLM.load(folders[name])
    assert "\n" not in str(refused.value)


REPORT = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
from PIL import Image
from kinescribe.models.chat_processor import image_backend
from kinescribe.models.chat_vlm import ChatVLM
from kinescribe.models.checkpoint_files import identify
from kinescribe.models.tokens import Pair

def picture(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
    return Image.fromarray(noise).resize((75, 53))

reports = {}
for folder in map(Path, sys.argv[1:]):
    vlm, pair = ChatVLM.load(folder), Pair(picture(0), picture(1))
    inputs = vlm.batch([pair.triplet("move left")]).inputs
    digest = hashlib.sha256(b"".join(inputs[name].double().numpy().tobytes() for name in sorted(inputs)))
    reports[folder.name] = {
        "backend": image_backend(folder),
        "fingerprint": identify(str(folder)).fingerprint,
        "inputs": digest.hexdigest(),
        "score": vlm.score([pair.triplet("move left")])[0],
        "text": vlm.describe([pair], 4)[0].text,
    }
print(json.dumps(reports))
"""


def report(folders: Sequence[Path], *path: Path) -> dict[str, dict[str, Any]]:
    """What a process with these folders on its path makes of the models, by the names of their folders."""
    ours = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [Path.cwd(), *path]))}
    command = [sys.executable, "-c", REPORT, *map(str, folders)]
    done = subprocess.run(command, env=ours, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def torchvision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the torchvision of vLLM's environment, and nothing else of it."""
    require_vllm()
    folder = tmp_path_factory.mktemp("torchvision")
    for path in ENVIRONMENT.glob("lib/python*/site-packages/torchvision*"):
        (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.slow
@pytest.mark.long
def test_torchvision_changes_nothing_of_a_model_that_works_without_it(
    folders: dict[str, Path], torchvision: Path
):
    models = [folders[name] for name in EVERYWHERE]
    without, beside = report(models), report(models, torchvision)
    assert beside == without
    assert len({row["inputs"] for row in without.values()}) == len(models)


@pytest.mark.slow
@pytest.mark.long
def test_torchvision_makes_a_model_work_that_needs_it_and_is_recorded(
    folders: dict[str, Path], torchvision: Path
):
    reports = report([folders[name] for name in WITH_TORCHVISION], torchvision)
    assert len(reports) == len(WITH_TORCHVISION)
    for found in reports.values():
        if found["backend"] != "pil":
            assert found["fingerprint"].endswith(f" with {found['backend']}")
            assert found["backend"].startswith("torchvision 0.")
        assert found["score"] < 0
    assert {found["backend"] == "pil" for found in reports.values()} == {True, False}
