from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from kinescribe.models.checkpoint_files import identify
from kinescribe.models.families import EDIT_PARTS
from kinescribe.schemas.errors import DatasetError
from kinescribe.training.dry_run import dry_run, state_bytes
from tests.tiny_edit import tiny_edit
from tests.tiny_families import NUM_CODES, SIDE, tiny_family
from tests.tiny_triplets import write_triplets


def test_a_dry_run_says_what_training_takes_and_writes_nothing(dynamics, model_folder, tmp_path):
    plan = dry_run(dynamics(epochs=2, steps=None, lora={"rank": 2}))
    network = AutoModelForCausalLM.from_pretrained(model_folder)
    weights = sum(parameter.numel() for parameter in network.parameters())
    assert (plan.samples, plan.batch, plan.steps) == (24, 4, 12)
    assert plan.parameters - plan.trained_parameters == weights
    assert 0 < plan.trained_parameters < weights
    assert plan.state_bytes == 4 * (plan.parameters + 3 * plan.trained_parameters)
    assert plan.activation_bytes
    assert not (tmp_path / "out").exists()


def test_a_dry_run_reads_no_weights_of_a_published_model(world, tmp_path: Path):
    folder = tiny_family("chameleon", tmp_path / "chameleon")
    write_triplets(str(folder / "triplets"), 8, identify(str(folder)).codec.id, NUM_CODES, SIDE)
    plan = dry_run(world(init=str(folder), data=[str(folder / "triplets")], new_image_head=True))
    assert plan.trained_parameters > 0


def test_a_dry_run_reads_no_weights_of_an_image_editor(world, tmp_path: Path):
    folder = tiny_edit(tmp_path / "edit")
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    full = dry_run(world(init=str(folder), lora={"rank": 2}))
    for part, weights in EDIT_PARTS.items():
        save_file({"none": torch.zeros(1)}, folder / part / weights)
    assert dry_run(world(init=str(folder), lora={"rank": 2})) == full
    assert unet.conv_in.weight.numel() < full.trained_parameters < unet.num_parameters() < full.parameters
    assert full.activation_bytes


def test_more_samples_at_once_take_more_memory(world):
    few, many = (dry_run(world(micro_batch=size)).activation_bytes for size in (1, 4))
    assert few is not None
    assert many is not None
    assert many > 3 * few


def test_a_dry_run_finds_what_would_stop_the_training(dynamics, tmp_path: Path):
    other = tmp_path / "other"
    write_triplets(str(other), 4, "vq-of-another-codec")
    with pytest.raises(DatasetError, match="the dataset has codes of codec vq-of-another-codec"):
        dry_run(dynamics(data=[str(other)]))


@pytest.mark.parametrize(("stage", "floats"), [(0, 100 + 3 * 8), (1, 100 + 8 + 4), (2, 100 + 6), (3, 25 + 6)])
def test_each_zero_stage_shards_more(stage: int, floats: int):
    assert state_bytes(parameters=100, trained=8, zero_stage=stage, workers=4) == 4 * floats
