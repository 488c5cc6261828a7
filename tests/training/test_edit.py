import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image
from safetensors.torch import load_file

from kinescribe.models.edit_diffusion import EditDiffusion
from kinescribe.models.registry import load
from kinescribe.schemas.errors import ConfigError, DatasetError
from kinescribe.schemas.training import WorldTraining
from kinescribe.training.dry_run import dry_run
from kinescribe.training.edit import EditBatch, EditBatches, EditObjective, read_edits, resized
from kinescribe.training.session import TrainSession
from kinescribe.training.tasks import make_task
from tests.tiny_edit import LATENT_SIDE, SIDE, tiny_edit
from tests.tiny_families import SENTENCES
from tests.tiny_triplets import ACTIONS, LABELLED, write_triplets
from tests.training_curve import curve


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_edit(tmp_path_factory.mktemp("edit"))


@pytest.fixture(scope="module")
def model(folder: Path) -> EditDiffusion:
    return EditDiffusion.load(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    data = str(tmp_path_factory.mktemp("triplets"))
    write_triplets(data, 8, "vq-of-no-model-here")
    return data


@pytest.fixture
def edit(folder: Path, data: str, tmp_path: Path) -> Callable[..., WorldTraining]:
    def make(**changes: Any) -> WorldTraining:
        given = {"data": [data], "out": str(tmp_path / "out"), "init": str(folder), "steps": 4, "batch": 4}
        given |= {"log_every": 1, "evaluate_every": 2, "checkpoint_every": 2, "lora": {"rank": 2, "alpha": 4}}
        given |= {"optimization": {"learning_rate": 0.01, "warmup_steps": 1}}
        return WorldTraining.model_validate(given | changes)

    return make


def batch(model: EditDiffusion, data: str, floor: float | None, dropout: float = 0.0) -> EditBatch:
    return EditBatches(read_edits([data]), model, floor, dropout, seed=3).batch(range(6), range(6))


def targets(data: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(row["target"]["bytes"])) for row in read_edits([data]).to_pylist()]


def kept(of: EditBatch) -> torch.Tensor:
    """How much of the clean image is left at each timestep."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return torch.cumprod(1 - betas, 0)[of.timesteps_B].view(-1, 1, 1, 1)


@torch.no_grad()
def found(model: EditDiffusion, of: EditBatch) -> np.ndarray:
    """The noise that the network finds, by the equations of InstructPix2Pix, in float64."""
    parts: Any = model.pipeline
    source, target = (
        parts.vae.encode(pixels).latent_dist.mean for pixels in (of.source_B3HW, of.target_B3HW)
    )
    clean = target * parts.vae.config.scaling_factor
    noisy = kept(of).sqrt() * clean + (1 - kept(of)).sqrt() * of.noise_BChw
    given = torch.cat([noisy, source * of.source_seen_B.view(-1, 1, 1, 1)], 1)
    words = parts.text_encoder(of.ids_BT).last_hidden_state
    return parts.unet(given, of.timesteps_B, encoder_hidden_states=words).sample.double().numpy()


def test_the_weighted_loss_is_that_of_a_loop_in_float64(model: EditDiffusion, data: str):
    of = batch(model, data, floor=0.1)
    predicted, noise = found(model, of), of.noise_BChw.double().numpy()
    total, weight = 0.0, 0.0
    for one in range(6):
        for row in range(LATENT_SIDE):
            for column in range(LATENT_SIDE):
                w = float(of.weights_Bhw[one, row, column])
                error = noise[one, :, row, column] - predicted[one, :, row, column]
                total += w * float(error @ error) / 4
                weight += w
    with torch.no_grad():
        loss = float(EditObjective(model)(of)["loss"])
    assert loss == pytest.approx(total, rel=1e-5)
    assert of.total_weight == pytest.approx(weight)


def test_with_equal_weights_it_is_the_mean_squared_error(model: EditDiffusion, data: str):
    of = batch(model, data, floor=None)
    with torch.no_grad():
        loss = float(EditObjective(model)(of)["loss"]) / of.total_weight
    plain = F.mse_loss(torch.from_numpy(found(model, of)), of.noise_BChw.double())
    assert loss == pytest.approx(float(plain), rel=1e-5)


def test_a_pipeline_that_predicts_velocity_learns_that(folder: Path, data: str):
    model = EditDiffusion.load(folder)
    scheduler = model.pipeline.scheduler
    model.pipeline.scheduler = scheduler.from_config(scheduler.config, prediction_type="v_prediction")
    of = batch(model, data, floor=None)
    clean_BChw = torch.from_numpy(np.stack([model.encode(image) for image in targets(data)[:6]]))
    clean_BChw *= model.pipeline.vae.config.scaling_factor
    wanted_BChw = kept(of).sqrt() * of.noise_BChw - (1 - kept(of)).sqrt() * clean_BChw
    with torch.no_grad():
        loss = float(EditObjective(model)(of)["loss"]) / of.total_weight
    plain = F.mse_loss(torch.from_numpy(found(model, of)), wanted_BChw.double())
    assert loss == pytest.approx(float(plain), rel=1e-4)


def test_weights_are_importance_at_the_latent_images_size_with_mean_one(model: EditDiffusion, data: str):
    rows = read_edits([data]).to_pylist()
    weights_Bhw = batch(model, data, floor=0.0).weights_Bhw
    torch.testing.assert_close(weights_Bhw.mean((1, 2)), torch.ones(6))
    importance = np.array(rows[0]["importance"]).reshape(4, 4)
    expected = np.kron(importance, np.ones((2, 2))) / importance.mean()
    np.testing.assert_allclose(weights_Bhw[0], expected, rtol=1e-3)
    # Onto a coarser grid, a place has the mean of the tokens that it covers.
    np.testing.assert_allclose(
        resized(np.arange(16, dtype=np.float32), (2, 2)), [[2.5, 4.5], [10.5, 12.5]], rtol=1e-6
    )


def test_a_share_goes_without_action_source_and_both(model: EditDiffusion, data: str):
    batches = EditBatches(read_edits([data]), model, None, 0.25, seed=0)
    of = batches.batch([0] * 400, range(400))
    empty = (of.ids_BT == model.token_ids([""])).all(1).numpy()
    unseen = of.source_seen_B.numpy() == 0
    for share in (empty & ~unseen, empty & unseen, ~empty & unseen, ~empty & ~unseen):
        assert share.mean() == pytest.approx(0.25, abs=0.06)
    of = EditBatches(read_edits([data]), model, None, 0.0, seed=0).batch([0] * 50, range(50))
    assert of.source_seen_B.all()
    assert not (of.ids_BT == model.token_ids([""])).all(1).any()


def test_the_randomness_of_a_sample_depends_on_its_position(model: EditDiffusion, data: str):
    batches = EditBatches(read_edits([data]), model, 0.0, 0.05, seed=1)
    whole, parts = (
        batches.batch([4, 5, 6], [7, 8, 9]),
        [batches.batch([4], [7]), batches.batch([5, 6], [8, 9])],
    )
    for together, *apart in zip(whole, *parts, strict=True):
        assert torch.equal(together, torch.cat(apart))
    assert not torch.equal(whole.noise_BChw, batches.batch([4, 5, 6], [17, 18, 19]).noise_BChw)


def test_triplets_without_importance_are_refused_or_have_equal_weights(model: EditDiffusion, tmp_path: Path):
    write_triplets(str(tmp_path), 2, "vq", importance=None)
    rows = read_edits([str(tmp_path)])
    with pytest.raises(DatasetError, match="weights=none"):
        EditBatches(rows, model, 0.0, 0.0, seed=0)
    assert (EditBatches(rows, model, None, 0.0, seed=0).batch([0], [0]).weights_Bhw == 1).all()


def test_a_dry_run_counts_the_adapters_and_conv_in_alone(edit: Callable[..., WorldTraining]):
    plan, task = dry_run(edit()), make_task(edit())
    trained = {name: one for name, one in task.module.named_parameters() if one.requires_grad}
    assert {name for name in trained if "lora" not in name} == {"unet.conv_in.weight"}
    assert plan.trained_parameters == sum(one.numel() for one in trained.values())
    assert (plan.samples, plan.steps) == (8, 4)
    whole = dry_run(edit(lora=None))
    unet = sum(one.numel() for name, one in task.module.named_parameters() if name.startswith("unet."))
    assert (
        whole.trained_parameters == unet - plan.trained_parameters + task.module.unet.conv_in.weight.numel()
    )


def test_a_head_of_image_codes_is_refused(edit: Callable[..., WorldTraining]):
    with pytest.raises(ConfigError, match="new_image_head"):
        make_task(edit(new_image_head=True))


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("stage", [0, 3])
def test_a_resumed_fine_tune_is_the_undisturbed_one_and_opens_with_diffusers(
    stage: int, edit: Callable[..., WorldTraining], folder: Path, data: str, tmp_path: Path
):
    """Mixed data and random dropout go on where they were; adapter and merged export are one model."""
    labelled = tmp_path / "labelled"
    write_triplets(str(labelled), 4, "vq-of-another-model", side=2, **LABELLED)
    changes = {"data": [data, str(labelled)], "mix": {"supervised": 0.5, "labelled": 0.5}, "held_out": [data]}
    changes |= {"lora": {"rank": 2, "alpha": 4, "dropout": 0.5}, "engine": {"zero_stage": stage}}
    whole, broken = edit(**changes), edit(out=str(tmp_path / "broken"), **changes)
    for config in (whole, broken):
        TrainSession(config, lambda _: None, print).run()
    (last,) = Path(broken.out).glob("checkpoints/step-*4")
    (last / "COMPLETE").unlink()
    TrainSession(broken, lambda _: None, print).run()
    assert curve(broken) == curve(whole)

    exports = [Path(config.out) / "export" for config in (whole, broken)]
    ours, theirs = (load_file(one / "unet" / "diffusion_pytorch_model.safetensors") for one in exports)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    merged = StableDiffusionInstructPix2PixPipeline.from_pretrained(exports[0])
    adapted = EditDiffusion.load(folder).pipeline
    before = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], ours[name])}
    assert {name for name in changed if ".to_" not in name} == {"conv_in.weight"}
    assert len(changed) > 8
    given = torch.randn(1, 8, LATENT_SIDE, LATENT_SIDE), torch.tensor([500]), torch.randn(1, 24, 16)
    with torch.no_grad():
        expected, plain = merged.unet(*given).sample, adapted.unet(*given).sample
        adapted.load_lora_weights(exports[0] / "adapter")
        torch.testing.assert_close(adapted.unet(*given).sample, expected, rtol=1e-4, atol=1e-5)
    assert (plain - expected).abs().max() > 1e-3
    world = load(str(exports[0]), "world")
    source = np.zeros((4, LATENT_SIDE, LATENT_SIDE), np.float32)
    assert world.pictures(world.imagine(source, SENTENCES[0], 2, seed=0))[1].size == (SIDE, SIDE)


@pytest.mark.usefixtures("process_group")
def test_a_whole_fine_tune_learns_and_leaves_text_and_autoencoder_as_they_are(
    edit: Callable[..., WorldTraining], folder: Path
):
    config = edit(steps=40, lora=None, log_every=10, evaluate_every=40, checkpoint_every=40)
    TrainSession(config, lambda _: None, print).run()
    losses = [line["loss"] for line in curve(config)]
    assert losses[-1] < losses[0] - 0.1, losses
    for part, name in (("vae", "diffusion_pytorch_model"), ("text_encoder", "model")):
        old, new = (
            load_file(at / part / f"{name}.safetensors") for at in (folder, Path(config.out) / "export")
        )
        assert all(torch.equal(old[name], new[name]) for name in old)
    assert load(str(Path(config.out) / "export"), "world").takes("world", ACTIONS[0])
