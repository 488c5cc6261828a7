"""InstructPix2Pix as a world model, end to end: fine-tuned, sampled, chosen, evaluated."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from kinescribe.models.edit_diffusion import EditDiffusion
from tests.command_line import evaluate_aurora, run, train
from tests.tiny_chat import tiny_chat
from tests.tiny_edit import LATENT_SIDE, SIDE, tiny_edit
from tests.tiny_families import SENTENCES
from tests.tiny_triplets import write_triplets
from tests.tiny_vlm import tiny_vlm
from tests.videos import texture


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_edit(tmp_path_factory.mktemp("edit"))


@pytest.mark.parametrize(("sees", "num_steps"), [("codes", 2), ("images", 1)])
def test_any_dynamics_model_verifies_its_samples(sees: str, num_steps: int, world: Path, tmp_path: Path):
    dynamics, image = tmp_path / "dynamics", tmp_path / "source.png"
    if sees == "codes":
        tiny_vlm().save(dynamics)
    else:
        tiny_chat("llava", dynamics)
    Image.fromarray(texture(0, 48, 40)).save(image)
    steps = "; ".join(SENTENCES[:num_steps])
    models = ("--world", world, "--dynamics", dynamics, "--out", tmp_path / "imagined")
    run("imagine", "--source", image, "--steps", steps, "-n", 3, *models)
    record = json.loads((tmp_path / "imagined" / "imagined.json").read_text())
    assert record["codec"] is None
    assert len(record["steps"]) == num_steps
    for step in record["steps"]:
        assert len(set(step["scores"])) > 1, step
        assert step["best"] == step["scores"].index(max(step["scores"]))
        with Image.open(tmp_path / "imagined" / step["image"]) as best:
            assert best.size == (SIDE, SIDE)


def test_it_is_judged_beside_a_copy_and_its_autoencoder(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tiny_vlm().save(tmp_path / "dynamics")
    models = ("--world", world, "--dynamics", tmp_path / "dynamics", "--num", 1, "--json")
    run("evaluate", "best-of-n", *models, "--n", "1,2")
    assert set(json.loads(capsys.readouterr().out)["judge"]["verified"]) == {"1", "2"}
    run("evaluate", "world", *models)
    assert set(json.loads(capsys.readouterr().out)["scores"]) == {"model", "copy", "codec"}
    run("models", world, "--json")
    (known,) = json.loads(capsys.readouterr().out)
    assert (known["family"], known["does"]) == ("instruct-pix2pix", ["imagine"])


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_it_is_fine_tuned_by_two_workers_and_run_on_the_benchmark(world: Path, tmp_path: Path):
    """A chat model chooses among its samples; diffusers opens its adapter with the same result as the
    export."""
    data, chat, imagined = tmp_path / "triplets", tiny_chat("llava", tmp_path / "chat"), tmp_path / "imagined"
    write_triplets(str(data), 8, "vq-of-no-model-here")
    options = ("--data", data, "--set", "lora.rank=2", "--set", "engine.zero_stage=2")
    tuned = train("world", tmp_path / "run", world, *options)
    pipelines = [EditDiffusion.load(world).pipeline for _ in range(2)]
    pipelines += [StableDiffusionInstructPix2PixPipeline.from_pretrained(tuned)]
    pipelines[1].load_lora_weights(tuned / "adapter")
    given = torch.randn(1, 8, LATENT_SIDE, LATENT_SIDE), torch.tensor([500]), torch.randn(1, 24, 16)
    with torch.no_grad():
        before, adapted, merged = (pipeline.unet(*given).sample for pipeline in pipelines)
    torch.testing.assert_close(adapted, merged, rtol=1e-4, atol=1e-5)
    assert (before - merged).abs().max() > 1e-3

    Image.fromarray(texture(0, 48, 40)).save(tmp_path / "source.png")
    asked = ("--source", tmp_path / "source.png", "--action", SENTENCES[0], "-n", 4, "--out", imagined)
    models = ("--world", tuned, "--dynamics", chat)
    run("imagine", *asked, *models)
    (step,) = json.loads((imagined / "imagined.json").read_text())["steps"]
    assert len(set(step["scores"])) == 4, step
    evaluate_aurora(tmp_path, *models, "-n", 2)
