import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from kinescribe.models.chat_vlm import ChatVLM
from kinescribe.models.families import WEIGHTS
from kinescribe.models.tokens import Pair, Triplet
from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.sampling import Sampling
from tests.choices import assert_choice_is_by_score
from tests.tiny_architectures import WITHOUT_TORCHVISION, tiny_architecture
from tests.tiny_chat import CHATS, tiny_chat
from tests.tiny_families import SENTENCES

SIZES = ((40, 32), (32, 40), (64, 24))


@pytest.fixture(scope="session")
def chat_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    write = dict.fromkeys(CHATS, tiny_chat) | dict.fromkeys(WITHOUT_TORCHVISION, tiny_architecture)
    return {name: make(name, tmp_path_factory.mktemp(name)) for name, make in write.items()}


@pytest.fixture(scope="session", params=(*CHATS, *WITHOUT_TORCHVISION))
def chat(request: pytest.FixtureRequest, chat_folders: dict[str, Path]) -> ChatVLM:
    return ChatVLM.load(chat_folders[request.param])


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(noise).resize(size)


def pairs() -> list[Pair[Image.Image]]:
    """Of different sizes, so that prompts differ in length where the model keeps sizes."""
    return [Pair(picture(2 * n, size), picture(2 * n + 1, size)) for n, size in enumerate(SIZES)]


def triplets() -> list[Triplet[Image.Image]]:
    return [pair.triplet(action) for pair, action in zip(pairs(), SENTENCES, strict=False)]


def test_a_batch_has_the_scores_of_its_single_triplets(chat: ChatVLM):
    together = chat.score(triplets())
    assert together == pytest.approx([chat.score([one])[0] for one in triplets()], abs=1e-3)
    assert len({round(score, 2) for score in together}) == 3


def test_choosing_scores_each_action_as_if_it_were_alone(chat: ChatVLM, monkeypatch: pytest.MonkeyPatch):
    assert_choice_is_by_score(chat, pairs(), monkeypatch)


def test_a_batch_has_the_descriptions_of_its_single_pairs(chat: ChatVLM):
    together = chat.describe(pairs(), 8)
    for one, alone in zip(together, (chat.describe([pair], 8)[0] for pair in pairs()), strict=True):
        assert one.text == alone.text
        assert one.logprob == pytest.approx(alone.logprob, abs=1e-3)
        assert (one.num_tokens, one.finish_reason) == (alone.num_tokens, alone.finish_reason)
    assert len({one.logprob for one in together}) > 1


@torch.no_grad()
def test_the_score_of_a_description_is_its_log_probability(chat: ChatVLM):
    """Token by token: a random model's words needn't come back from their text."""
    (said,), prompt = chat.describe(pairs()[:1], 1), chat.batch(triplets()[:1])
    start = int(prompt.weights_BT[0].argmax())
    logits_V = chat.network(**prompt.inputs).logits[0, start - 1].float().log_softmax(-1)
    special = [one for one, token in chat.tokenizer.added_tokens_decoder.items() if token.special]
    logits_V[[one for one in special if one not in chat.ends]] = -torch.inf
    assert said.logprob == pytest.approx(float(logits_V.max()), abs=1e-4)
    assert (said.num_tokens, said.finish_reason) == (1, "length")


@torch.no_grad()
def test_the_score_is_of_the_answer_and_the_token_that_ends_it(chat: ChatVLM):
    """Against the likelihood of each token, one forward pass a token, without padding."""
    triplet = triplets()[0]
    batch = chat.batch([triplet])
    start, total = int(batch.weights_BT[0].argmax()), 0.0
    ids_T = batch.inputs["input_ids"][0]
    assert chat.tokenizer.decode(ids_T[start:-1]).strip() == triplet.action
    assert int(ids_T[-1]) in chat.ends
    length = len(ids_T)
    for end in range(start, length):
        cut = {
            name: value[:, :end] if value.shape == (1, length) else value
            for name, value in batch.inputs.items()
        }
        total += float(chat.network(**cut).logits[0, -1].log_softmax(-1)[ids_T[end]])
    assert chat.score([triplet])[0] == pytest.approx(total, abs=1e-3)


def test_the_chat_template_gives_the_text_before_an_answer_and_the_tokens_that_end_it(
    chat_folders: dict[str, Path],
):
    said = {}
    for name, folder in chat_folders.items():
        chat = ChatVLM.load(folder)
        said[name] = (chat.before_answer, chat.tokenizer.convert_ids_to_tokens(chat.ends))
    assert said == {
        "qwen": ("", ["<|im_end|>", "<|endoftext|>"]),
        "qwen3": ("", ["<|im_end|>", "<|endoftext|>"]),
        "smolvlm": (" ", ["<end_of_utterance>"]),
        "llava": (" ", ["</s>"]),
        "gemma4": ("", ["<turn|>"]),
        "minicpmv": ("", ["<|im_end|>"]),
    }


def test_both_images_and_their_order_count(chat: ChatVLM):
    triplet = triplets()[0]
    scores = chat.score([triplet, triplet.swapped, triplet.copied])
    assert len({round(score, 3) for score in scores}) == 3
    (contrast,) = chat.contrast([triplet])
    assert contrast == pytest.approx(scores[0] - max(scores[1:]), abs=1e-3)


def test_a_sample_depends_only_on_its_seed_and_pair(chat: ChatVLM):
    seeds = [5, 6, 7]
    together = [one.text for one in chat.describe(pairs(), 8, Sampling(1.0), seeds)]
    alone = [
        chat.describe([pair], 8, Sampling(1.0), [seed])[0].text
        for pair, seed in zip(pairs(), seeds, strict=True)
    ]
    assert together == alone
    assert [one.text for one in chat.describe(pairs(), 8, Sampling(1.0), [8, 9, 10])] != together


def test_an_image_is_seen_as_it_is_stored(chat: ChatVLM):
    stored = io.BytesIO()
    picture(0, (40, 32)).save(stored, "png")
    seen = chat.see(np.zeros(16, np.uint16), stored.getvalue)
    assert (seen.mode, seen.tobytes()) == ("RGB", picture(0, (40, 32)).tobytes())


def test_saved_it_scores_the_same(chat: ChatVLM, tmp_path: Path):
    chat.save(tmp_path)
    again = ChatVLM.load(tmp_path)
    assert again.score(triplets()) == pytest.approx(chat.score(triplets()), abs=1e-5)
    assert (again.before_answer, again.ends) == (chat.before_answer, chat.ends)


def test_saved_its_weights_have_the_names_that_they_had(chat: ChatVLM, tmp_path: Path):
    """Servers find them by these names, some of which transformers changes when it opens them."""
    chat.save(tmp_path)
    assert load_file(tmp_path / WEIGHTS).keys() == load_file(chat.folder / WEIGHTS).keys()


def test_an_action_is_accepted_if_all_its_tokens_have_positions(chat: ChatVLM):
    assert chat.takes("dynamics", SENTENCES[0])
    assert not chat.takes("dynamics", "left " * 40_000)
    assert chat.knows_a_word("move it")


def test_a_model_is_tried_without_its_weights(chat_folders: dict[str, Path]):
    network = ChatVLM.load(chat_folders["llava"], device=torch.device("meta")).network
    assert all(weight.is_meta for weight in network.parameters())


def test_a_folder_without_a_chat_template_is_refused(tmp_path: Path):
    folder = tiny_chat("llava", tmp_path)
    (folder / "chat_template.jinja").unlink()
    for name in ("processor_config.json", "tokenizer_config.json"):
        values = json.loads((folder / name).read_text())
        values.pop("chat_template", None)
        (folder / name).write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"chat_template\.jinja"):
        ChatVLM.load(folder)


def test_a_saved_model_has_its_sources_files_of_processor_and_template_unchanged(
    chat_folders: dict[str, Path], tmp_path: Path
):
    source = tmp_path / "source"
    shutil.copytree(chat_folders["qwen"], source)
    # What published folders have, and the processor without its video part does not write.
    (source / "video_preprocessor_config.json").write_text(
        '{"video_processor_type": "Qwen2VLVideoProcessor"}'
    )
    (source / "vocab.txt").write_text("a")
    (source / "model.safetensors.index.json").write_text("{}")
    (source / "README.md").write_text("# Qwen")
    saved = tmp_path / "saved"
    ChatVLM.load(source).save(saved)
    for path in source.iterdir():
        is_copied = path.suffix in (".json", ".jinja", ".txt") and path.name not in (
            "config.json",
            "generation_config.json",
            "model.safetensors.index.json",
        )
        if is_copied:
            assert (saved / path.name).read_bytes() == path.read_bytes(), path.name
    assert not (saved / "README.md").exists()
    assert not (saved / "model.safetensors.index.json").exists()
    ChatVLM.load(saved)
