import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from kinescribe.models.checkpoint_files import codec_folder, identify
from kinescribe.models.edit_diffusion import EditDiffusion
from kinescribe.models.families import EDIT_FILES
from kinescribe.models.registry import load, load_model
from kinescribe.schemas.errors import ConfigError, ModelError
from tests.tiny_edit import LATENT_SIDE, SIDE, tiny_edit
from tests.tiny_families import SENTENCES
from tests.tiny_vlm import tiny_vlm
from tests.videos import texture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_edit(tmp_path_factory.mktemp("edit"))


@pytest.fixture(scope="module")
def model(folder: Path) -> EditDiffusion:
    world = load(str(folder), "world")
    assert isinstance(world, EditDiffusion)
    return world


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.fromarray(texture(0, 48, 40))


def test_imagined_targets_differ_and_are_a_function_of_seed_source_and_action(
    model: EditDiffusion, image: Image.Image
):
    source = model.encode(image)
    three = model.imagine(source, SENTENCES[0], 3, seed=5)
    assert three.shape == (3, 4, LATENT_SIDE, LATENT_SIDE)
    assert np.abs(three[0] - three[1]).mean() > 0.1
    # Sample i is the same whatever shares its batch.
    (again,) = model.imagine(source, SENTENCES[0], 1, seed=5)
    np.testing.assert_allclose(again, three[0], rtol=0.01, atol=0.01)
    for changed in [
        (source, SENTENCES[0], 1, 6),
        (source, SENTENCES[1], 1, 5),
        (-source, SENTENCES[0], 1, 5),
    ]:
        assert np.abs(model.imagine(*changed)[0] - again).max() > 0.03


def test_frames_are_its_autoencoders_latent_images(model: EditDiffusion, folder: Path, image: Image.Image):
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae").eval()
    square = image.crop((4, 0, 44, 40))
    pixels = np.array(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    pixels_13HW = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents_1Chw = vae.encode(pixels_13HW).latent_dist.mean
        decoded_13HW = vae.decode(latents_1Chw).sample
    frame = model.encode(square)
    np.testing.assert_allclose(frame, latents_1Chw[0], atol=0.05)
    (picture,) = model.pictures(frame[None])
    assert picture.size == (SIDE, SIDE)
    shown = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    torch.testing.assert_close(shown, decoded_13HW.clamp(-1, 1), atol=0.05, rtol=0)


def test_long_actions_are_refused_and_unknown_words_recognised(model: EditDiffusion):
    assert model.takes("world", SENTENCES[0])
    assert not model.takes("world", "left " * 23)
    assert model.knows_a_word(SENTENCES[0])
    assert not model.knows_a_word("ballo di San Vito")


def test_a_temperature_is_refused(model: EditDiffusion):
    with pytest.raises(ConfigError, match=r"temperature.*0\.5"):
        model.imagine(np.zeros(model.latent_shape, np.float32), SENTENCES[0], 1, 0, temperature=0.5)


def test_only_its_autoencoder_stays_in_float32(folder: Path):
    model = EditDiffusion.load(folder, torch.bfloat16)
    assert {part: getattr(model.pipeline, part).dtype for part in ("unet", "text_encoder", "vae")} == {
        "unet": torch.bfloat16,
        "text_encoder": torch.bfloat16,
        "vae": torch.float32,
    }
    source = model.encode(Image.new("RGB", (SIDE, SIDE), "red"))
    assert np.isfinite(model.imagine(source, SENTENCES[0], 2, 0)).all()


def test_it_draws_and_neither_describes_nor_scores(folder: Path, tmp_path: Path):
    for use in (load_model, partial(load, role="dynamics"), codec_folder):
        with pytest.raises(ModelError, match="is an image editor, which can't describe frame pairs"):
            use(str(folder))
    tiny_vlm().save(tmp_path)
    with pytest.raises(ModelError, match="is a unified model, not an image editor"):
        EditDiffusion.load(tmp_path)


@pytest.mark.parametrize("name", EDIT_FILES)
def test_a_folder_without_one_of_its_files_is_refused_by_name(name: str, folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match="config.json" if name == "model_index.json" else name):
        identify(str(tmp_path))


def test_other_weights_are_another_model_and_damaged_ones_are_refused(folder: Path, tmp_path: Path):
    first = identify(str(folder))
    assert first.codec is None
    other = tiny_edit(tmp_path, seed=1)
    assert identify(str(other)).fingerprint != first.fingerprint
    weights = other / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelError, match="is damaged"):
        identify(str(other))
