import io
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image

from kinescribe.models.chat_vlm import ChatVLM
from kinescribe.models.registry import load
from kinescribe.models.tokens import Triplet
from kinescribe.schemas.annotation import Asking
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.prompts import QUESTION_OF_SEVERAL
from kinescribe.schemas.training import DynamicsTraining
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.examples import read_examples
from kinescribe.training.chat import ConversationBatches, read_conversations
from kinescribe.training.objective import TokenObjective
from kinescribe.training.session import TrainSession
from tests.tiny_chat import CHATS, tiny_chat
from tests.tiny_dataset import image
from tests.tiny_triplets import write_triplets
from tests.training_curve import curve


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("triplets"))
    write_triplets(folder, 8, "vq-of-no-model-here")
    return folder


@pytest.fixture(scope="module", params=CHATS)
def chat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chat(request.param, tmp_path_factory.mktemp(request.param))


def conversations(data: str, model: ChatVLM) -> list[Triplet[Image.Image]]:
    def seen(image: dict) -> Image.Image:
        return Image.open(io.BytesIO(image["bytes"])).convert("RGB")

    rows = Dataset.open(data).scan().to_table().to_pylist()
    return [Triplet(seen(row["source"]), seen(row["target"]), row["action"]) for row in rows]


def test_the_loss_is_the_mean_of_the_scores_over_the_answers_tokens(chat: Path, data: str):
    """`score` is the un-averaged loss, negated, whatever shares the batch."""
    model = ChatVLM.load(chat)
    batch = ConversationBatches(read_conversations([data]), model).batch(range(8), range(8))
    with torch.inference_mode():
        loss = float(TokenObjective(model.network)(batch)["loss"])
    scores = [model.score([one])[0] for one in conversations(data, model)]
    assert loss == pytest.approx(-sum(scores), rel=1e-4)
    num_tokens = [
        len(model.tokenizer.encode(model.before_answer + one.action)) for one in conversations(data, model)
    ]
    assert batch.total_weight == sum(num_tokens) + 8


@torch.no_grad()
def test_the_weighted_loss_is_that_of_a_loop_in_float64(chat: Path, data: str):
    model = ChatVLM.load(chat)
    batch = ConversationBatches(read_conversations([data]), model).batch(range(4), range(4))
    batch = batch._replace(weights_BT=batch.weights_BT * torch.rand(batch.weights_BT.shape))
    logits_BTV, ids_BT = model.network(**batch.inputs).logits.double(), batch.inputs["input_ids"]
    expected = 0.0
    for row, place in batch.weights_BT.nonzero().tolist():
        scores_V = logits_BTV[row, place - 1]
        logprob = float(scores_V[ids_BT[row, place]] - scores_V.logsumexp(0))
        expected -= float(batch.weights_BT[row, place]) * logprob
    assert float(TokenObjective(model.network)(batch)["loss"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("process_group")
def test_a_short_fine_tune_learns_and_its_export_and_adapter_are_one_model(
    chat: Path, data: str, tmp_path: Path
):
    config = DynamicsTraining.model_validate(
        {
            "data": [data],
            "held_out": [data],
            "out": str(tmp_path),
            "init": str(chat),
            "lora": {"rank": 4, "alpha": 8},
            "steps": 20,
            "batch": 4,
            "log_every": 5,
            "evaluate_every": 20,
            "checkpoint_every": 20,
            "optimization": {"learning_rate": 0.01, "warmup_steps": 1},
        }
    )
    TrainSession(config, lambda _: None, print).run()
    losses = [line["loss"] for line in curve(config) if "loss" in line]
    assert losses[-1] < losses[0] - 0.2, losses

    model, merged = ChatVLM.load(chat), load(str(tmp_path / "export"), "dynamics")
    some = conversations(data, model)
    assert np.mean(merged.score(some)) > np.mean(model.score(some)) + 1
    adapted = PeftModel.from_pretrained(model.network, tmp_path / "export" / "adapter")
    tuned = [name for name, _ in adapted.named_parameters() if "lora" in name]
    assert tuned
    assert not [name for name in tuned if "vision" in name or "visual" in name]
    model.network = adapted.merge_and_unload()
    assert model.score(some) == pytest.approx(merged.score(some), abs=1e-3)


def test_a_model_is_trained_on_the_question_that_it_is_given(chat: Path, tmp_path: Path):
    folder = str(tmp_path / "classes")
    write_triplets(folder, 2, "vq-of-no-model-here", action_class="a dance")
    model, asking = ChatVLM.load(chat), Asking(question="What of {action_class}?", system="Be brief.")
    batch = ConversationBatches(read_conversations([folder]), model, asking).batch([0], [0])
    text = model.tokenizer.decode(batch.inputs["input_ids"][0])
    assert "What of a dance?" in text
    assert "Be brief." in text


def test_a_model_is_trained_after_the_examples_that_it_is_given(chat: Path, data: str, tmp_path: Path):
    write_triplets(str(tmp_path), 2, "vq-of-no-model-here")
    model, table = ChatVLM.load(chat), read_conversations([data])
    asking = Asking(examples=str(tmp_path))
    batches = ConversationBatches(table, model, asking)
    assert batches.triplet(3).prompt == asking.prompt({}, read_examples(asking))
    plain = ConversationBatches(table, model).batch([0], [0])
    shown = batches.batch([0], [0])
    assert shown.total_weight == plain.total_weight
    assert shown.weights_BT.shape[1] > 2 * plain.weights_BT.shape[1]


def test_frames_between_must_be_those_of_the_data(data: str, tmp_path: Path):
    with pytest.raises(DatasetError, match="lacks context"):
        read_conversations([data], 2)
    between = [image("green"), image("white")]
    write_triplets(str(tmp_path), 2, "vq-of-no-model-here", optional=["context_frames"], context=between)
    with pytest.raises(DatasetError, match="context_frames is 3, but triplets of the data have 2"):
        read_conversations([str(tmp_path)], 3)
    model = ChatVLM.load(tiny_chat("llava", tmp_path / "model"))
    batches = ConversationBatches(read_conversations([str(tmp_path)], 2), model, Asking(context_frames=2))
    triplet = batches.triplet(1)
    assert [one.getpixel((0, 0)) for one in triplet.context] == [(0, 128, 1), (255, 255, 255)]
    assert triplet.prompt.question == QUESTION_OF_SEVERAL


def test_an_action_without_words_is_refused(tmp_path: Path):
    write_triplets(str(tmp_path / "mute"), 2, "vq-of-no-model-here", action=" ")
    with pytest.raises(DatasetError, match="an empty action"):
        read_conversations([str(tmp_path / "mute")])
