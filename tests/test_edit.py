"""InstructPix2Pix as a world model from end to end, as a user goes: tuned, imagined, chosen, measured."""

import json
from pathlib import Path

import pytest
from PIL import Image

from kinescribe.cli import main
from tests.tiny_benchmark import write_benchmark
from tests.tiny_chat import tiny_chat
from tests.tiny_edit import SIDE, tiny_edit
from tests.tiny_families import SENTENCES
from tests.tiny_triplets import write_triplets
from tests.tiny_vlm import tiny_vlm
from tests.videos import texture


def run(*arguments: object) -> None:
    """A command of `kinescribe`, which must not fail."""
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    assert leaving.value.code == 0, arguments


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_edit(tmp_path_factory.mktemp("edit"))


@pytest.mark.parametrize(("sees", "num_steps"), [("codes", 2), ("images", 1)])
def test_any_dynamics_model_chooses_among_what_it_imagines(
    sees: str, num_steps: int, world: Path, tmp_path: Path
):
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
    data, out = tmp_path / "triplets", tmp_path / "run"
    write_triplets(str(data), 8, "vq-of-no-model-here")
    settings = [f"init={world}", "steps=4", "batch=4", "lora.rank=2", "log_every=2", "evaluate_every=4"]
    settings += ["checkpoint_every=4", "engine.workers=2", "engine.zero_stage=2"]
    run("train", "world", "--data", data, "--out", out, *(w for one in settings for w in ("--set", one)))
    assert (out / "export" / "adapter" / "pytorch_lora_weights.safetensors").is_file()
    benchmark = write_benchmark(tmp_path / "benchmark", 1)
    run("evaluate", "aurora", "--data", benchmark, "--world", out / "export", "--out", tmp_path / "evaluated")
    assert len((tmp_path / "evaluated" / "samples.csv").read_text().splitlines()) == 1 + 5 + 5
