from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, CLIPModel

from kinescribe.evaluation.image_metrics import Similarity
from kinescribe.schemas.errors import ModelError
from tests.tiny_encoders import write_clip, write_dino

ACTION = "move the red ball left " * 20


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return write_clip(root / "clip"), write_dino(root / "dino")


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8))


def test_the_truth_itself_is_most_like_it(folders: tuple[Path, Path]):
    same, other = Similarity(*folders)([picture(0), picture(1)], [picture(0), picture(0)], [ACTION, ACTION])
    assert (same["l1"], same["clip_i"], same["dino"]) == pytest.approx((0, 1, 1), abs=1e-5)
    assert other["clip_i"] < 0.9999
    assert other["dino"] < 0.9999
    difference = np.asarray(picture(0), float) - np.asarray(picture(1), float)
    assert other["l1"] == pytest.approx(np.abs(difference).mean() / 255, abs=1e-6)


def test_clip_is_the_librarys_own_embedding(folders: tuple[Path, Path]):
    clip, _ = folders
    (values,) = Similarity(clip, None)([picture(0)], [picture(1)], ["move the ball left"])
    processor, network = AutoImageProcessor.from_pretrained(clip), CLIPModel.from_pretrained(clip).eval()
    ids = torch.tensor([[4, 5, 7, 8]])
    with torch.inference_mode():
        pixels = processor(images=[picture(0), picture(1)], return_tensors="pt")["pixel_values"]
        given = network(input_ids=ids, pixel_values=pixels)
    image, target = given.image_embeds
    assert values["clip_i"] == pytest.approx(float(image @ target), abs=1e-5)
    assert values["clip_t"] == pytest.approx(float(image @ given.text_embeds[0]), abs=1e-5)
    assert "dino" not in values


def test_without_models_there_is_l1_alone():
    assert list(Similarity(None, None)([picture(0)], [picture(1)], [ACTION])[0]) == ["l1"]


def test_a_folder_that_is_no_such_model_is_refused(folders: tuple[Path, Path], tmp_path: Path):
    with pytest.raises(ModelError, match="does not embed words"):
        Similarity(folders[1], None)
    with pytest.raises(ModelError, match="cannot be opened"):
        Similarity(None, tmp_path)
