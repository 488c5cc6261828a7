"""Every family through the same code: only what wraps the codes, and what is unmasked, differs."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from kinescribe.models.checkpoint_files import identify
from kinescribe.models.families import CHAMELEON, EMU3, LIQUID, OWN, family_of
from kinescribe.models.token_vlm import TokenVLM
from kinescribe.models.tokens import CodePair, CodeTriplet, Task
from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.prompts import Prompt
from kinescribe.schemas.sampling import Sampling
from kinescribe.training.objective import TokenBatch, TokenObjective
from tests.tiny_families import NUM_CODES, SENTENCES, SIDE

LENGTH = SIDE * SIDE


def triplets(num: int, seed: int = 0) -> list[CodeTriplet]:
    codes = np.random.default_rng(seed).integers(0, NUM_CODES, (num, 2, LENGTH)).astype(np.uint16)
    return [CodeTriplet(*pair, SENTENCES[i % len(SENTENCES)]) for i, pair in enumerate(codes)]


def logprobs(vlm: TokenVLM, ids: np.ndarray) -> torch.Tensor:
    """log p of each token but the first, in float64, by a plain pass of the whole sequence."""
    ids_T = torch.from_numpy(ids)
    with torch.no_grad():
        logits_TV = vlm.network(ids_T[None]).logits[0].double()
    return logits_TV[:-1].log_softmax(-1).gather(1, ids_T[1:, None])[:, 0]


def words(vlm: TokenVLM, ids: np.ndarray) -> str:
    """A sequence with codes as numbers and text as text."""
    code = {id_: f"{code} " for code, id_ in enumerate(vlm.layout.code_ids.tolist())}
    return "".join(code.get(id_) or vlm.layout.tokenizer.decode([id_]) for id_ in ids.tolist())


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"first_code_id": 300, "model_type": "opt"}, OWN),
        ({"model_type": "chameleon"}, CHAMELEON),
        ({"model_type": "emu3"}, EMU3),
        ({"model_type": "gemma"}, LIQUID),
    ],
)
def test_a_family_is_known_by_the_models_configuration(config: dict, family: object):
    assert family_of(config) is family


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chameleon", "<s><racm3:break>{source}<eoss> pan left<reserved08706><racm3:break>{target}"),
        (
            "emu3",
            "<|extra_203|><|image start|>4*4<|image token|>{source}<|extra_201|><|image end|>"
            " pan left<|image start|>4*4<|image token|>{target}",
        ),
        ("liquid", "<bos><boi>{source}<eoi>\n pan left<boi>{target}"),
    ],
)
def test_codes_are_wrapped_as_the_family_was_trained(
    family_folders: dict[str, Path], name: str, expected: str
):
    vlm = TokenVLM.load(family_folders[name])
    triplet = triplets(1)[0]._replace(action=" pan left")
    end = "<|extra_200|>" if name == "emu3" else ""
    source, target = (
        "".join("".join(f"{code} " for code in row) + end for row in codes.reshape(SIDE, SIDE))
        for codes in triplet[:2]
    )
    written = words(vlm, vlm.sequence("world", triplet).ids)
    assert written == expected.format(source=source, target=target.removesuffix(end))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "chameleon",
            "<s><racm3:break>{source}<eoss><racm3:break>{target}<eoss>Is it <eoss>?<reserved08706>",
        ),
        (
            "emu3",
            "<|extra_203|>You are a helpful assistant. USER: <|image start|>4*4<|image token|>{source}"
            "<|extra_201|><|image end|><|image start|>4*4<|image token|>{target}<|extra_201|><|image end|>"
            "Is it <eoss>? ASSISTANT:",
        ),
        (
            "liquid",
            "<bos><start_of_turn>user\n<boi>{source}<eoi><boi>{target}<eoi>\nIs it <eoss>?<end_of_turn>\n"
            "<start_of_turn>model\n",
        ),
    ],
)
def test_a_published_model_is_asked_as_its_family_was_trained(
    family_folders: dict[str, Path], name: str, expected: str
):
    vlm = TokenVLM.load(family_folders[name])
    source, target = triplets(1)[0][:2]
    pair = CodePair(source, target, Prompt("Is it <eoss>?"))
    end = "<|extra_200|>" if name == "emu3" else ""
    images = {
        key: "".join("".join(f"{code} " for code in row) + end for row in codes.reshape(SIDE, SIDE))
        for key, codes in {"source": source, "target": target}.items()
    }
    assert words(vlm, vlm.layout.describe_prompt(pair)) == expected.format(**images)


def test_pairs_that_are_asked_different_questions_are_described_as_alone(family: TokenVLM):
    asked = [Prompt(), Prompt("What moved left?"), Prompt(), Prompt("Which ball?")]
    pairs = [CodePair(*one[:2], prompt) for one, prompt in zip(triplets(4), asked, strict=True)]
    for sampling, seeds in ((Sampling(), None), (Sampling(1.5), [3, 1, 4, 5])):
        together = family.describe(pairs, 6, sampling, seeds)
        for place, pair in enumerate(pairs):
            (alone,) = family.describe([pair], 6, sampling, seeds and [seeds[place]])
            assert together[place].text == alone.text
            assert together[place].logprob == pytest.approx(alone.logprob, abs=1e-3)


@pytest.mark.parametrize("name", ["chameleon", "emu3"])
def test_codes_in_the_text_give_the_logits_of_the_models_own_pixels(
    family_folders: dict[str, Path], name: str
):
    vlm = TokenVLM.load(family_folders[name])
    codec, layout = vlm.codec, vlm.layout
    pixels_B3HW = torch.rand(2, 3, 4 * SIDE, 4 * SIDE) * 2 - 1
    codes_BL = codec.encode(pixels_B3HW).stored_BL
    assert len(np.unique(codes_BL)) > 3
    ids = layout.describe_prompt(CodePair(*codes_BL))
    given = {"pixel_values": pixels_B3HW}
    if name == "emu3":
        given["pixel_values"] = (pixels_B3HW - codec.shift) / codec.scale
        given["image_sizes"] = torch.full((2, 2), 4 * SIDE)
    placeholder = layout.tokenizer.convert_tokens_to_ids("<image>")
    pictured = np.isin(ids, layout.code_ids) | (ids == layout.row_end)
    network = AutoModelForImageTextToText.from_pretrained(family_folders[name])
    with torch.no_grad():
        theirs_TV = network(torch.from_numpy(np.where(pictured, placeholder, ids))[None], **given).logits[0]
        ours_TV = vlm.network(torch.from_numpy(ids)[None]).logits[0]
    text = layout.text_ids  # transformers masks the others
    torch.testing.assert_close(ours_TV[:, text], theirs_TV[:, text], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("task", ["dynamics", "world"])
def test_batch_scores_equal_single_scores_and_a_plain_forward_pass(family: TokenVLM, task: Task):
    batch = triplets(5)
    scores = family.score(batch, task)
    assert scores == pytest.approx([family.score([one], task)[0] for one in batch], abs=1e-3)
    for triplet, score in zip(batch, scores, strict=True):
        sequence = family.sequence(task, triplet)
        weighed = logprobs(family, sequence.ids) * torch.from_numpy(sequence.weights[1:])
        assert math.isfinite(score)
        assert score == pytest.approx(float(weighed.sum()), abs=1e-3)


@pytest.mark.parametrize("task", ["dynamics", "world"])
def test_the_weighted_loss_is_that_of_a_loop_in_float64(family: TokenVLM, task: Task):
    random = np.random.default_rng(1)
    importance = [random.random(LENGTH).astype(np.float32) for _ in range(3)]
    rows = [family.sequence(task, one, w) for one, w in zip(triplets(3), importance, strict=True)]
    columns = (map(torch.from_numpy, column) for column in zip(*rows, strict=True))
    pad = torch.nn.utils.rnn.pad_sequence
    batch = TokenBatch(*(pad(list(column), batch_first=True) for column in columns))
    expected = 0.0
    for row in rows:
        for place, logprob in enumerate(logprobs(family, row.ids).tolist(), 1):
            expected -= float(row.weights[place]) * logprob
    with torch.no_grad():
        assert float(TokenObjective(family.network)(batch)["loss"]) == pytest.approx(expected, rel=1e-5)
    num_weighed = LENGTH if task == "world" else len(family.layout.text(SENTENCES[0]))
    assert np.count_nonzero(rows[0].weights) == num_weighed


def test_the_likelihood_of_a_description_is_its_score(family: TokenVLM):
    pairs = [CodePair(*triplet[:2]) for triplet in triplets(6)]
    for seeds in (None, range(6)):
        said = family.describe(pairs, 6, Sampling(1.5) if seeds else Sampling(), seeds)
        for pair, one in zip(pairs, said, strict=True):
            ids = family.layout.text(one.text)
            assert not np.isin(ids, family.layout.code_ids).any()
            assert 1 <= one.num_tokens <= 6
            if one.finish_reason == "stop" and len(ids) == one.num_tokens:
                score = family.score([CodeTriplet(*pair, one.text)])[0]
                assert score == pytest.approx(one.logprob, abs=1e-3)


def test_imagined_targets_are_images_that_come_back_with_their_seed(family: TokenVLM):
    source = triplets(1)[0].source
    samples = family.imagine(source, "pan left", 4, seed=1, temperature=5.0)
    assert samples.shape == (4, LENGTH)
    assert len({tuple(sample) for sample in samples.tolist()}) == 4
    assert (samples[:2] == family.imagine(source, "pan left", 2, seed=1, temperature=5.0)).all()
    pictures = family.codec.pictures(samples)
    assert [picture.size for picture in pictures] == [(4 * SIDE, 4 * SIDE)] * 4


def test_a_cold_sample_is_the_likeliest_code_at_each_place(family: TokenVLM):
    source = triplets(1)[0].source
    sample = family.imagine(source, "pan left", 1, seed=1, temperature=1e-6)[0]
    sequence = family.sequence("world", CodeTriplet(source, sample, "pan left"))
    with torch.no_grad():
        logits_TV = family.network(torch.from_numpy(sequence.ids)[None]).logits[0]
    places = np.flatnonzero(sequence.weights) - 1
    likeliest = logits_TV[places][:, torch.from_numpy(family.layout.code_ids)].argmax(-1)
    assert likeliest.tolist() == sample.tolist()


def test_a_saved_model_is_the_same_model(family: TokenVLM, tmp_path: Path):
    family.save(tmp_path)
    saved = TokenVLM.load(tmp_path)
    assert saved.layout.code_ids.tolist() == family.layout.code_ids.tolist()
    assert saved.fingerprint == family.fingerprint
    assert identify(str(tmp_path)).codec.id == family.codec_id == family.codec.id
    for task in ("dynamics", "world"):
        assert saved.score(triplets(2), task) == family.score(triplets(2), task)


def test_a_tokenizer_without_the_familys_tokens_is_refused(family_folders: dict[str, Path], tmp_path: Path):
    shutil.copytree(family_folders["liquid"], tmp_path, dirs_exist_ok=True)
    written = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(written.replace("<boi>", "<gone>"))
    with pytest.raises(ModelError, match="no token <boi>"):
        TokenVLM.load(tmp_path)


def test_a_codec_of_another_model_is_refused(family_folders: dict[str, Path], tmp_path: Path):
    shutil.copytree(family_folders["liquid"], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "codec" / "config.json").read_text())
    (tmp_path / "codec" / "config.json").write_text(json.dumps(config | {"num_vq_embeddings": 20}))
    with pytest.raises(ModelError, match="16 image codes and its codec has 20"):
        TokenVLM.load(tmp_path)
