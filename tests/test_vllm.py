"""Chat models behind the real vLLM: labels of a fine-tuned export, a restart in a run, architectures."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kinescribe.cluster.label import run_label
from kinescribe.cluster.pipeline import Sessions
from kinescribe.cluster.progress import LabelProgress
from kinescribe.models.endpoint import Endpoint, Question, Reply
from kinescribe.models.registry import load
from kinescribe.models.tokens import Pair
from kinescribe.schemas.config import LabelConfig
from kinescribe.storage.audit import check, status
from kinescribe.storage.dataset import Dataset
from tests.command_line import run, train
from tests.fake_clips import FakeExtractor
from tests.tiny_architectures import WITH_TORCHVISION, WITHOUT_TORCHVISION, tiny_architecture
from tests.tiny_chat import CHATS, tiny_chat
from tests.tiny_triplets import write_triplets
from tests.videos import pan, write_video
from tests.vllm_server import VllmServer, require_vllm, vllm_server

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3600)]
NATS_PER_TOKEN = 0.05
"""How far likelihoods may differ: vLLM prepares images with torchvision, and computes in another order."""
NUM_CLIPS, NUM_TOKENS = 120, 4
SIZES = ((64, 64), (64, 48), (96, 64), (48, 48), (80, 64), (64, 80))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, ray_here: object) -> Path:
    """The export of a chat model that was fine-tuned to say one of two actions."""
    require_vllm()
    folder = tmp_path_factory.mktemp("tuned")
    model, given = tiny_chat("qwen", folder / "model"), folder / "triplets"
    write_triplets(str(given), 8, "vq-of-no-model-here")
    settings = ("steps=60", "checkpoint_every=60", "lora.rank=4", "optimization.learning_rate=0.02")
    options = (word for setting in settings for word in ("--set", setting))
    return train("dynamics", folder / "run", model, "--data", given, *options)


@pytest.fixture(scope="module")
def served(tuned: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    with vllm_server(tuned, tmp_path_factory.mktemp("vllm")) as server:
        yield server


@pytest.mark.ray
def test_a_tuned_export_labels_through_vllm_as_it_does_in_process(
    tuned: Path, served: VllmServer, tmp_path: Path
):
    (tmp_path / "videos").mkdir()
    for index in range(3):
        write_video(tmp_path / "videos" / f"pan{index}.mp4", pan(70))
    there, here = (
        labelled(tmp_path / "videos", tmp_path / out, dynamics)
        for out, dynamics in (("there", served.name), ("here", tuned))
    )
    assert there.keys() == here.keys()
    assert len(there) >= 6
    assert all(row["action"].startswith("move the red ball") for row in there.values()), there
    equal = [name for name, row in there.items() if row["action"] == here[name]["action"]]
    assert len(equal) > len(there) / 2
    for name in equal:
        assert there[name]["action_tokens"] == here[name]["action_tokens"]
        off = abs(there[name]["action_logprob"] - here[name]["action_logprob"])
        assert off <= NATS_PER_TOKEN * here[name]["action_tokens"]


def labelled(videos: Path, out: Path, dynamics: object) -> Mapping[str, dict[str, Any]]:
    """The rows by their ids."""
    run("label", videos, "--out", out, "--dynamics", dynamics, "--set", "annotation.max_new_tokens=12")
    assert check(str(out)).ok
    rows = Dataset.open(str(out)).scan().to_table().to_pylist()
    return {row["triplet_id"]: row for row in rows}


class Restart(LabelProgress):
    """Kills the server when the first unit is committed, and starts it again at the same address."""

    def __init__(self, server: VllmServer) -> None:
        super().__init__()
        self.server, self.notes, self.is_restarted = server, list[str](), False

    def update(self, receipt) -> None:
        super().update(receipt)
        if not self.is_restarted:
            self.is_restarted = True
            self.server.kill()
            self.server.start()

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.ray
def test_a_server_that_is_killed_and_restarted_in_the_middle_costs_no_clip(
    served: VllmServer, tmp_path: Path
):
    clips, out = tmp_path / "clips", str(tmp_path / "out")
    clips.mkdir()
    for index in range(NUM_CLIPS):
        (clips / f"clip{index}.mp4").write_bytes(b"x")
    config = LabelConfig(dynamics=served.name, clips_per_unit=1, annotation={"max_new_tokens": 12})
    progress, sessions = Restart(served), Sessions(make_extractor=FakeExtractor)
    done = run_label(str(clips), out, config, progress=progress, sessions=sessions)
    assert (done.kept, done.rejected) == (NUM_CLIPS, 0)
    assert status(out).pending == 0
    assert check(out).problems == []
    away, back = (note for note in progress.notes if served.url in note)
    assert "waiting up to 10 min" in away
    assert back.endswith("answers again")


def picture(seed: int, size: tuple[int, int]) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    png = io.BytesIO()
    Image.fromarray(noise).resize(size).save(png, "PNG")
    return png.getvalue()


NOT_SERVED = {
    "minicpmv": "vLLM's linear attention for CPUs is in bfloat16 and doesn't take such small heads",
    "lfm2": "vLLM finds the vision weights only by their published names, which random ones don't have",
}
"""Of the checkpoints that the tests make; both architectures are in vLLM."""
OTHER_PIXELS = {"smolvlm", *WITH_TORCHVISION}
"""In process they are prepared otherwise than in vLLM, or not at all."""


@pytest.mark.parametrize(
    "name", [name for name in (*CHATS, *WITHOUT_TORCHVISION, *WITH_TORCHVISION) if name not in NOT_SERVED]
)
def test_vllm_serves_the_architecture(name: str, tmp_path: Path):
    """With random weights, which also say what is no text; such replies are refused."""
    require_vllm()
    folder = (tiny_chat if name in CHATS else tiny_architecture)(name, tmp_path / name)
    pairs = [Pair(picture(2 * n, size), picture(2 * n + 1, size)) for n, size in enumerate(SIZES)]
    with vllm_server(folder, tmp_path) as server:
        replies = asked(server, pairs)
        assert any(reply.failure is None for reply in replies), (replies, server.errors())
    assert all(reply.failure in (None, "garbage") for reply in replies)
    if name in OTHER_PIXELS:
        return
    vlm, num_equal = load(str(folder), "dynamics"), 0
    for pair, reply in zip(pairs, replies, strict=True):
        source, target = (vlm.see(None, lambda image=image: image) for image in (pair.source, pair.target))
        (here,) = vlm.describe([Pair(source, target)], NUM_TOKENS)
        if reply.failure is None and reply.text.strip() == here.text.strip():
            num_equal += 1
            assert sum(reply.logprobs) == pytest.approx(here.logprob, abs=NATS_PER_TOKEN * NUM_TOKENS)
    assert num_equal


def asked(server: VllmServer, pairs: Sequence[Pair[bytes]]) -> list[Reply]:
    """The replies as they are, also if they are no sentences."""
    options = {"max_tokens": NUM_TOKENS, "logprobs": True}
    questions = {
        str(place): Question(pair.prompt.question, (pair.source, pair.target), options)
        for place, pair in enumerate(pairs)
    }
    replies = dict[str, Reply]()
    Endpoint.named(server.name).ask(questions, replies.__setitem__)
    return [replies[name] for name in questions]
