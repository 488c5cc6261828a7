import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kinescribe.models.initialization import new_codec, new_token_vlm, new_tokenizer
from kinescribe.models.token_vlm import TokenVLM
from kinescribe.models.tokens import CodePair, CodeTriplet, Task
from kinescribe.schemas.errors import ModelError
from kinescribe.schemas.sampling import Sampling
from tests.choices import assert_choice_is_by_score

SENTENCES = ["move the red ball left", "pan left", "make the blue box bigger"]


@pytest.fixture(scope="module")
def vlm() -> TokenVLM:
    torch.manual_seed(0)
    codec = new_codec(resolution=32, channels=(8, 16), num_codes=32, dims=4)
    model = new_token_vlm(codec, new_tokenizer(SENTENCES, 300), hidden=32, layers=2, heads=2)
    # Far from uniform, so that a mistake of one position shows in the likelihoods.
    torch.nn.init.normal_(model.network.get_input_embeddings().weight, std=0.3)
    return model


def pairs(vlm: TokenVLM, num: int) -> list[CodePair]:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, vlm.codec.num_codes, (num, 2, math.prod(vlm.codec.grid))).astype(np.uint16)
    return [CodePair(*pair) for pair in codes]


def triplets(vlm: TokenVLM, num: int) -> list[CodeTriplet]:
    return [pair.triplet(SENTENCES[i % len(SENTENCES)]) for i, pair in enumerate(pairs(vlm, num))]


def test_batch_scores_equal_single_scores(vlm: TokenVLM):
    batch = triplets(vlm, 7)
    one_by_one = [vlm.score([triplet])[0] for triplet in batch]
    np.testing.assert_allclose(vlm.score(batch), one_by_one, atol=1e-4)


def test_choosing_scores_each_action_as_if_it_were_alone(vlm: TokenVLM, monkeypatch: pytest.MonkeyPatch):
    assert_choice_is_by_score(vlm, pairs(vlm, 3), monkeypatch)


def test_a_score_is_the_sum_over_the_actions_tokens_in_float64(vlm: TokenVLM):
    triplet = triplets(vlm, 1)[0]
    ids = vlm.sequence("dynamics", triplet).ids
    with torch.no_grad():
        logits_TV = vlm.network(torch.from_numpy(ids)[None]).logits[0].double()
    start = len(vlm.layout.describe_prompt(triplet))
    total = 0.0
    for place in range(start, len(ids)):
        row = logits_TV[place - 1]
        total += float(row[ids[place]] - torch.logsumexp(row, 0))
    assert vlm.score([triplet])[0] == pytest.approx(total, abs=1e-4)


def test_a_contrast_is_the_score_less_that_of_the_likelier_manipulated_pair(vlm: TokenVLM):
    likelier: set[str] = set()
    for triplet, contrast in zip(triplets(vlm, 12), vlm.contrast(triplets(vlm, 12)), strict=True):
        source, target, action = triplet[:3]
        (own,) = vlm.score([triplet])
        (swapped,) = vlm.score([CodeTriplet(target, source, action)])
        (copied,) = vlm.score([CodeTriplet(source, source, action)])
        assert contrast == pytest.approx(own - max(swapped, copied), abs=1e-4)
        likelier.add("swapped" if swapped > copied else "copied")
    assert likelier == {"swapped", "copied"}


def test_a_copied_pair_has_no_contrast(vlm: TokenVLM):
    copies = [triplet.copied for triplet in triplets(vlm, 3)]
    assert vlm.contrast(copies) == pytest.approx([0, 0, 0], abs=1e-4)


def test_an_action_has_contrast_on_a_pair_or_on_its_swap_but_not_on_both(vlm: TokenVLM):
    there = vlm.contrast(triplets(vlm, 7))
    back = vlm.contrast([triplet.swapped for triplet in triplets(vlm, 7)])
    assert max(np.add(there, back)) < 1e-4
    assert max(there) > 0


def test_the_likelihood_of_a_description_is_its_score(vlm: TokenVLM):
    for pair, said in zip(pairs(vlm, 4), vlm.describe(pairs(vlm, 4), max_new_tokens=6), strict=True):
        if said.finish_reason == "stop":
            assert vlm.score([pair.triplet(said.text)])[0] == pytest.approx(said.logprob, abs=1e-3)
        assert said.logprob < 0
        assert 1 <= said.num_tokens <= 6


def test_a_description_never_holds_image_tokens(vlm: TokenVLM):
    said = vlm.describe(pairs(vlm, 8), max_new_tokens=8, sampling=Sampling(3.0), seeds=range(8))
    codes = {vlm.layout.tokenizer.decode([vlm.layout.code_ids[0]])}
    assert not any(code and code in description.text for code in codes for description in said)
    assert len({description.text for description in said}) > 1


def test_a_sample_depends_on_its_seed_and_not_on_its_batch(vlm: TokenVLM):
    batch = vlm.describe(pairs(vlm, 5), 6, sampling=Sampling(1.0), seeds=[10, 11, 12, 13, 14])
    alone = vlm.describe(pairs(vlm, 5)[3:4], 6, sampling=Sampling(1.0), seeds=[13])
    other = vlm.describe(pairs(vlm, 5)[3:4], 6, sampling=Sampling(1.0), seeds=[99])
    assert batch[3].text == alone[0].text != other[0].text


def test_the_likeliest_token_alone_or_the_smallest_nucleus_is_greedy(vlm: TokenVLM):
    greedy = vlm.describe(pairs(vlm, 4), 6)
    for sampling in (Sampling(3.0, top_k=1), Sampling(3.0, top_p=1e-6)):
        assert vlm.describe(pairs(vlm, 4), 6, sampling, range(4)) == greedy
    assert vlm.describe(pairs(vlm, 4), 6, Sampling(3.0), range(4)) != greedy


def test_a_repetition_penalty_makes_words_that_were_written_rarer(vlm: TokenVLM):
    def repeats(sampling: Sampling) -> int:
        said = [one.text.split() for one in vlm.describe(pairs(vlm, 8), 12, sampling)]
        return sum(len(words) - len(set(words)) for words in said)

    assert repeats(Sampling(repetition_penalty=50.0)) < repeats(Sampling())


def test_imagined_targets_are_codes_that_differ_and_come_back_with_their_seed(vlm: TokenVLM):
    source = pairs(vlm, 1)[0].source
    # Hot, since the fixture's network all but repeats a code that it has drawn.
    first = vlm.imagine(source, "pan left", num_samples=3, seed=1, temperature=20.0)
    assert first.shape == (3, math.prod(vlm.codec.grid))
    assert first.max() < vlm.codec.num_codes
    assert len({tuple(sample) for sample in first.tolist()}) == 3
    assert (first == vlm.imagine(source, "pan left", num_samples=3, seed=1, temperature=20.0)).all()


def test_a_cold_sample_is_the_likeliest_code_at_each_place_of_the_world_sequence(vlm: TokenVLM):
    source = pairs(vlm, 1)[0].source
    sample = vlm.imagine(source, "pan left", num_samples=2, seed=1, temperature=1e-6)[1]
    sequence = vlm.sequence("world", CodeTriplet(source, sample, "pan left"))
    ids_1T, positions_1T = (torch.from_numpy(row)[None] for row in (sequence.ids, sequence.positions))
    with torch.no_grad():
        logits_TV = vlm.network(ids_1T, position_ids=positions_1T).logits[0, -len(sample) - 1 : -1]
    assert logits_TV[:, vlm.layout.code_ids[0] :].argmax(-1).tolist() == sample.tolist()


def test_a_sample_is_the_same_however_many_are_drawn_beside_it(vlm: TokenVLM):
    source = pairs(vlm, 1)[0].source
    two, five = (vlm.imagine(source, "pan left", num, seed=3, temperature=20.0) for num in (2, 5))
    assert (two == five[:2]).all()


def test_a_new_image_head_gives_similar_codes_similar_likelihoods(vlm: TokenVLM):
    vlm = copy.deepcopy(vlm)
    head_VD = vlm.network.get_output_embeddings().weight
    first = vlm.layout.code_ids[0]
    text = head_VD[:first].clone()
    vlm.restart_image_head()
    assert torch.equal(head_VD[:first], text)
    codes_KD = vlm.network.get_input_embeddings().weight[first:]
    said_D = codes_KD[5] - codes_KD.mean(0)
    expected_K = (codes_KD - codes_KD.mean(0)) @ said_D
    torch.testing.assert_close(head_VD[first:] @ said_D, expected_K)


def test_a_head_tied_to_the_embeddings_cannot_be_restarted(vlm: TokenVLM):
    vlm = copy.deepcopy(vlm)
    vlm.network.set_output_embeddings(vlm.network.get_input_embeddings())
    with pytest.raises(ModelError, match="new_image_head"):
        vlm.restart_image_head()


def test_the_world_task_scores_the_targets_tokens(vlm: TokenVLM):
    batch = triplets(vlm, 3)
    for triplet, score in zip(batch, vlm.score(batch, "world"), strict=True):
        ids_T, positions_T, _ = map(torch.from_numpy, vlm.sequence("world", triplet))
        with torch.no_grad():
            logits_TV = vlm.network(ids_T[None], position_ids=positions_T[None]).logits[0].double()
        logprobs_T = logits_TV[:-1].log_softmax(-1).gather(1, ids_T[1:, None])[:, 0]
        assert score == pytest.approx(float(logprobs_T[-len(triplet.target) :].sum()), abs=1e-3)


def test_a_saved_model_has_the_same_scores_and_fingerprint(vlm: TokenVLM, tmp_path: Path):
    vlm.save(tmp_path)
    loaded = TokenVLM.load(tmp_path)
    for task in ("dynamics", "world"):
        assert loaded.score(triplets(vlm, 3), task) == vlm.score(triplets(vlm, 3), task)
    assert loaded.fingerprint == vlm.fingerprint


@pytest.mark.parametrize("task", ["world", "dynamics"])
def test_the_longest_action_that_is_taken_has_a_position_for_every_token(vlm: TokenVLM, task: Task):
    longest = next(num for num in range(1, 100) if not vlm.takes(task, "left " * num)) - 1
    pair = pairs(vlm, 1)[0]
    assert math.isfinite(vlm.score([pair.triplet("left " * longest)], task)[0])
    with pytest.raises(IndexError):
        vlm.score([pair.triplet("left " * (longest + 1))], task)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("tokenizer.json", lambda text: text[:200]),
        ("config.json", lambda text: text.replace('"hidden_size": ', '"hidden_size": 1')),
        ("config.json", lambda text: text.replace('"model_type": "', '"model_type": "x')),
    ],
)
def test_a_folder_with_mismatched_files_is_refused(
    vlm: TokenVLM, tmp_path: Path, name: str, harm: Callable[[str], str]
):
    vlm.save(tmp_path)
    (tmp_path / name).write_text(harm((tmp_path / name).read_text()))
    with pytest.raises(ModelError, match=f"{tmp_path} cannot be opened: "):
        TokenVLM.load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "codec/config.json"])
def test_a_folder_that_lacks_a_file_is_refused_naming_it(vlm: TokenVLM, tmp_path: Path, name: str):
    vlm.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=name):
        TokenVLM.load(tmp_path)
