import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kinescribe.labeling.annotate import Annotator
from kinescribe.models.chat_vlm import ChatVLM
from kinescribe.models.checkpoint_files import codec_folder, identify_codec
from kinescribe.models.endpoint_vlm import EndpointVLM
from kinescribe.models.families import CHAMELEON, OWN, ModelFamily
from kinescribe.models.registry import (
    fits_one_card,
    inference_dtype,
    load,
    load_labeller,
    load_model,
)
from kinescribe.models.tokens import CodeTriplet
from kinescribe.schemas.codes import FITS, Fit
from kinescribe.schemas.config import LabelConfig, Precision, load_config
from kinescribe.schemas.errors import ModelError
from tests.tiny_chat import tiny_chat
from tests.tiny_edit import tiny_edit
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
def test_automatic_precision_depends_on_hardware_and_family(
    precision: Precision, family: ModelFamily, gpu_multiplies_bf16: bool, expected: torch.dtype
):
    assert inference_dtype(precision, family, gpu_multiplies_bf16) == expected


def test_only_a_model_too_large_for_one_of_several_cards_is_spread_over_them():
    assert not fits_one_card(14, [16, 16])
    assert fits_one_card(14, [80, 80])
    assert fits_one_card(14, [16])
    assert fits_one_card(14, [])


def test_a_model_in_bf16_has_nearly_the_same_scores_and_an_exact_codec(family_folders: dict[str, Path]):
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


def test_attention_is_the_requested_one_or_the_default_of_transformers(tmp_path: Path):
    for name in ("embedded", str(tiny_chat("llava", tmp_path))):
        networks = [load(name, "dynamics", attention=kind).network for kind in ("auto", "eager", "sdpa")]
        kinds = [network.config._attn_implementation for network in networks]
        assert kinds[0] in ("eager", "sdpa")
        assert kinds[1:] == ["eager", "sdpa"]
    with pytest.raises(ModelError, match=r"FlashAttention2.*leave attention out"):
        load_labeller(LabelConfig(attention="flash_attention_2"))


def test_a_chat_model_describes_and_scores_but_draws_nothing(tmp_path: Path):
    folder = str(tiny_chat("llava", tmp_path))
    assert isinstance(load(folder, "dynamics"), ChatVLM)
    with pytest.raises(ModelError, match=r"is a chat model, which can't draw images; name a unified model"):
        load_model(folder)
    with pytest.raises(ModelError, match=r"which can't draw images; name a world model"):
        load(folder, "world")


def test_a_server_describes_but_does_not_score_or_draw():
    server = "qwen@http://host/v1"
    assert isinstance(load(server, "describer"), EndpointVLM)
    for role, missing in (("dynamics", "score a given action"), ("world", "draw images")):
        with pytest.raises(ModelError, match=f"is a server, which can't {missing}; name a"):
            load(server, role)


def test_models_print_what_they_are(tmp_path: Path):
    assert repr(load_model("embedded")) == (
        "TokenVLM('embedded': describe, score; 8×8 codes of 4,096; 2.4M parameters; cpu, float32)"
    )
    chat = str(tiny_chat("llava", tmp_path))
    assert repr(load(chat, "dynamics")).startswith(f"ChatVLM({chat!r}: describe, score; ")
    assert (
        repr(load("qwen@http://host/v1", "describer"))
        == "EndpointVLM('qwen@http://host/v1': describe, judge; 8 requests at once)"
    )
    assert repr(load_model("embedded").codec) == "ImageCodec(64×64 pixels in 8×8 codes of 4,096; cpu)"


def test_loading_and_saving_a_model_shows_no_progress_bars_of_libraries(
    tmp_path: Path, capfd: pytest.CaptureFixture
):
    edit = str(tiny_edit(tmp_path))
    capfd.readouterr()
    for name, role in (("embedded", "dynamics"), (edit, "world")):
        load(name, role).save(tmp_path / role)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("fit", FITS)
def test_a_run_labels_with_the_codec_in_the_fit_that_it_asks_for(fit: Fit):
    config = load_config(LabelConfig, values={"image.fit": fit})
    model, codec = load_labeller(config)
    assert codec.fit == fit
    assert codec.id == identify_codec(codec_folder(config.dynamics), fit).id
    schema = Annotator(model, codec, config.annotation).schema
    assert json.loads(schema.metadata[b"kinescribe.codec"])["id"] == codec.id
    assert model.codec_id == identify_codec(codec_folder(config.dynamics)).id
