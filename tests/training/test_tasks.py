from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from kinescribe.models.checkpoint_files import identify
from kinescribe.models.codec import ImageCodec
from kinescribe.models.registry import load_model
from kinescribe.models.tokens import CodeTriplet
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.training import CodecTraining, DynamicsTraining, TokenTraining, WorldTraining
from kinescribe.training.session import TrainSession
from kinescribe.training.tasks import CodecTask
from tests.tiny_families import NAMES, NUM_CODES, SIDE, tiny_family
from tests.tiny_triplets import ACTIONS, write_triplets
from tests.training_curve import curve


@pytest.fixture(scope="module", params=NAMES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_family(request.param, tmp_path_factory.mktemp(request.param))
    write_triplets(str(folder / "triplets"), 24, identify(str(folder)).codec.id, NUM_CODES, SIDE)
    return folder


def train(kind: type[TokenTraining], family: Path, out: Path, **changes: Any) -> Path:
    """The export of a short training; its loss must fall."""
    given = {
        "data": [str(family / "triplets")],
        "out": str(out),
        "init": str(family),
        "steps": 20,
        "batch": 4,
    }
    optimization = {"learning_rate": 0.01, "warmup_steps": 1}
    given |= {"log_every": 5, "evaluate_every": 20, "checkpoint_every": 20, "optimization": optimization}
    config = kind.model_validate(given | changes)
    TrainSession(config, lambda _: None, print).run()
    losses = [line["loss"] for line in curve(config)]
    assert losses[-1] < losses[0] - 0.2, losses
    return out / "export"


def opened(folder: Path) -> Any:
    """The network as transformers alone opens it, with nothing missing and nothing left over."""
    gemma = "gemma" in (folder / "config.json").read_text()
    auto = AutoModelForCausalLM if gemma else AutoModelForImageTextToText
    network, info = auto.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return network.eval()


@pytest.mark.usefixtures("process_group")
def test_an_adapter_of_any_family_opens_with_peft_and_is_the_merged_export(family: Path, tmp_path: Path):
    lora = {"rank": 4, "alpha": 8}
    export = train(DynamicsTraining, family, tmp_path, lora=lora)
    adapter = load_file(export / "adapter" / "adapter_model.safetensors")
    assert {name.split(".lora_")[0].rsplit(".", 1)[1] for name in adapter} == {
        f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")
    }
    assert not any("vqmodel" in name for name in adapter)
    merged = load_model(str(export))
    codes = np.random.default_rng(0).integers(0, NUM_CODES, (2, SIDE * SIDE)).astype(np.uint16)
    ids_1T = torch.from_numpy(merged.sequence("dynamics", CodeTriplet(*codes, ACTIONS[0])).ids)[None]
    adapted = PeftModel.from_pretrained(opened(family), export / "adapter").eval()
    text = torch.from_numpy(merged.layout.text_ids)
    with torch.no_grad():
        theirs, ours = adapted(input_ids=ids_1T).logits, merged.network(input_ids=ids_1T).logits
        before = opened(family)(input_ids=ids_1T).logits
    torch.testing.assert_close(theirs[..., text], ours[..., text], rtol=1e-4, atol=1e-4)
    assert (before - theirs)[..., text].abs().max() > 0.01


@pytest.mark.usefixtures("process_group")
def test_a_whole_world_model_of_any_family_opens_with_transformers_and_keeps_its_codec(
    family: Path, tmp_path: Path
):
    export = train(WorldTraining, family, tmp_path)
    old, new = opened(family).state_dict(), opened(export).state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {name for name in old if "vqmodel" not in name}
    assert identify(str(export)).codec == identify(str(family)).codec
    source = np.zeros(SIDE * SIDE, np.uint16)
    assert load_model(str(export)).imagine(source, ACTIONS[0], 2, seed=0).max() < NUM_CODES


@pytest.mark.usefixtures("process_group")
def test_training_on_codes_of_any_family_loads_no_codec(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(folder: Path) -> ImageCodec:
        raise AssertionError(f"loaded {folder}")

    monkeypatch.setattr(ImageCodec, "load", refuse)
    train(WorldTraining, family, tmp_path, lora={"rank": 4, "alpha": 8})


def test_emu3s_codec_is_not_trained(tmp_path: Path):
    folder = tiny_family("emu3", tmp_path)
    given = {"data": ["nowhere"], "out": "nowhere", "steps": 1, "init": str(folder / "codec")}
    with pytest.raises(ConfigError, match="Emu3's codec"):
        CodecTask(CodecTraining.model_validate(given))
