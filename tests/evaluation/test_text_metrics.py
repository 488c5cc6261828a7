import io
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from kinescribe.evaluation.text_metrics import wording
from kinescribe.schemas.errors import ModelError
from tests.hub_server import COMMIT, HubServer, asked_instead
from tests.tiny_encoders import WORDS, write_text_encoder


def test_the_same_words_score_one():
    scores = wording(["move the red ball left"], ["move the red ball left"])
    assert (scores.rouge_1, scores.rouge_l, scores.bleu) == pytest.approx((1, 1, 1))


def test_four_words_of_five_are_four_fifths():
    scores = wording(["move the red ball left"], ["move the red ball right"])
    assert (scores.rouge_1, scores.rouge_l) == pytest.approx((0.8, 0.8))
    assert 0 < scores.bleu < 0.8


def test_the_longest_common_run_tells_order_from_choice():
    scores = wording(["the red ball"], ["ball red the"])
    assert scores.rouge_1 == pytest.approx(1)
    assert scores.rouge_l == pytest.approx(1 / 3)


def test_no_words_score_nothing():
    scores = wording(["move the red ball left"], [""])
    assert (scores.rouge_1, scores.rouge_l, scores.bleu) == (0, 0, 0)


def test_bertscore_is_the_mean_f1_of_the_encoders_last_layer(tmp_path: Path):
    encoder = write_text_encoder(tmp_path / "encoder")
    truths, texts = ["move the red ball", "the ball"], ["move the ball right", "the ball"]
    f1 = [_f1(encoder, *pair) for pair in zip(truths, texts, strict=True)]
    assert f1[0] < 0.999
    assert f1[1] == pytest.approx(1)
    assert wording(truths, texts, str(encoder)).bertscore == pytest.approx(sum(f1) / 2, abs=1e-5)
    assert wording(truths, texts).bertscore is None


def test_bertscores_encoder_may_be_a_hubs(tmp_path: Path):
    encoder = write_text_encoder(tmp_path / "encoder")
    texts = ["move the red ball"], ["move the ball right"]
    with asked_instead(HubServer({"me/encoder": encoder}), tmp_path / "cache"):
        theirs = wording(*texts, f"me/encoder@{COMMIT}").bertscore
    assert theirs == wording(*texts, str(encoder)).bertscore


def _f1(encoder: Path, truth: str, text: str) -> float:
    """BERTScore as its paper defines it: each token's best cosine, averaged both ways."""
    network = AutoModel.from_pretrained(encoder).eval()
    embedded = []
    for words in (truth, text):
        ids = torch.tensor([[WORDS.index(word) for word in words.split()]])
        with torch.inference_mode():
            embedded.append(torch.nn.functional.normalize(network(ids).last_hidden_state[0], dim=-1))
    cosines = embedded[0] @ embedded[1].T
    recall, precision = cosines.max(1).values.mean(), cosines.max(0).values.mean()
    return float(2 * precision * recall / (precision + recall))


def test_an_empty_text_counts_as_nothing(tmp_path: Path):
    encoder = write_text_encoder(tmp_path / "encoder")
    assert wording(["the ball", "the ball"], ["the ball", " "], str(encoder)).bertscore == pytest.approx(0.5)
    assert wording(["the ball"], [""], str(encoder)).bertscore == 0


def test_a_long_text_is_cut_to_what_the_encoder_reads(tmp_path: Path):
    long = "move the red ball " * 50
    assert wording([long], [long], str(write_text_encoder(tmp_path / "encoder"))).bertscore == pytest.approx(
        1
    )


def test_what_is_no_text_encoder_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        wording(["a"], ["a"], str(tmp_path))


def test_an_encoder_brings_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    encoder, ran = write_text_encoder(tmp_path / "encoder"), tmp_path / "ran"
    (encoder / "code.py").write_text(
        f"from transformers import BertConfig\nopen({str(ran)!r}, 'w')\nclass Own(BertConfig): pass\n"
    )
    (encoder / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "code.Own"}}')
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))  # the answer to transformers' question
    with pytest.raises(ModelError, match="cannot be opened"):
        wording(["a"], ["a"], str(encoder))
    assert not ran.exists()
