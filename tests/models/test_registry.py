from pathlib import Path

import numpy as np
import pytest
import torch

from kinescribe.models.chat_vlm import ChatVLM
from kinescribe.models.endpoint_vlm import EndpointVLM
from kinescribe.models.families import CHAMELEON, OWN, Family
from kinescribe.models.registry import (
    fits_one_card,
    inference_dtype,
    load_describer,
    load_dynamics,
    load_labeller,
    load_model,
)
from kinescribe.models.tokens import CodeTriplet
from kinescribe.schemas.config import LabelConfig, Precision
from kinescribe.schemas.errors import ModelError
from tests.tiny_chat import tiny_chat
from tests.tiny_families import NUM_CODES, SENTENCES, SIDE


@pytest.mark.parametrize(
    ("precision", "family", "gpu_multiplies_bf16", "expected"),
    [
        ("auto", CHAMELEON, True, torch.bfloat16),
        ("auto", CHAMELEON, False, torch.float32),
        ("auto", OWN, True, torch.float32),
        ("fp32", CHAMELEON, True, torch.float32),
        ("bf16", OWN, False, torch.bfloat16),
    ],
)
def test_precision_follows_hardware_and_family_where_it_is_not_given(
    precision: Precision, family: Family, gpu_multiplies_bf16: bool, expected: torch.dtype
):
    assert inference_dtype(precision, family, gpu_multiplies_bf16) == expected


def test_only_a_model_that_is_too_large_for_one_of_several_cards_is_spread_over_them():
    assert not fits_one_card(14, [16, 16])
    assert fits_one_card(14, [80, 80])
    assert fits_one_card(14, [16])
    assert fits_one_card(14, [])


def test_a_model_in_bf16_scores_nearly_alike_and_its_codec_stays_exact(family_folders: dict[str, Path]):
    codes = np.random.default_rng(0).integers(0, NUM_CODES, (6, 2, SIDE * SIDE)).astype(np.uint16)
    triplets = [CodeTriplet(*pair, SENTENCES[0]) for pair in codes]
    for folder in family_folders.values():
        exact, half = (load_model(str(folder), precision) for precision in ("fp32", "bf16"))
        assert half.network.dtype == torch.bfloat16
        assert half.codec.network.dtype == torch.float32
        assert half.codec.id == exact.codec.id
        for task in ("dynamics", "world"):
            np.testing.assert_allclose(half.score(triplets, task), exact.score(triplets, task), rtol=0.03)
        assert half.imagine(codes[0, 0], SENTENCES[0], 2, seed=0).shape == (2, SIDE * SIDE)


def test_attention_is_that_which_was_asked_for_or_transformers_own(tmp_path: Path):
    for name in ("embedded", str(tiny_chat("llava", tmp_path))):
        networks = [load_dynamics(name, "auto", kind).network for kind in ("auto", "eager", "sdpa")]
        kinds = [network.config._attn_implementation for network in networks]
        assert kinds[0] in ("eager", "sdpa")
        assert kinds[1:] == ["eager", "sdpa"]
    with pytest.raises(ModelError, match=r"FlashAttention2.*leave attention out"):
        load_labeller(LabelConfig(attention="flash_attention_2"))


def test_a_chat_model_describes_and_scores_but_draws_nothing(tmp_path: Path):
    folder = str(tiny_chat("llava", tmp_path))
    assert isinstance(load_dynamics(folder), ChatVLM)
    with pytest.raises(ModelError, match="draws no images"):
        load_model(folder)
    assert isinstance(load_describer("qwen@http://host/v1"), EndpointVLM)
