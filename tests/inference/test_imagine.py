import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinescribe.inference.imagine import Imagination, imagine
from kinescribe.models.checkpoint_files import identify
from kinescribe.models.codec import to_images
from kinescribe.models.registry import load_model
from kinescribe.models.tokens import CodeTriplet
from kinescribe.schemas.config import ImagineConfig
from kinescribe.schemas.errors import ConfigError, ModelError
from tests.tiny_vlm import tiny_vlm

LEFT, RIGHT = "move the red ball left", "move the red ball right"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_vlm().save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("images") / "source.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)).save(path)
    return str(path)


def imagined(source: str, model: str, *actions: str, out: Path | None = None, num: int = 3) -> Imagination:
    config = ImagineConfig(world=model, dynamics=model, actions=actions, num_samples=num, temperature=20.0)
    return imagine(source, config, out)


def pixels(image: Image.Image) -> bytes:
    return image.convert("RGB").tobytes()


def test_the_samples_are_the_world_models_and_the_scores_the_dynamics_models(source: str, model: str):
    [step] = imagined(source, model, LEFT).steps
    vlm = load_model(model)
    with Image.open(source) as image:
        codes_1L = vlm.codec.encode(vlm.codec.preprocess([image])).codes_BL
    source_codes = codes_1L[0].numpy().astype(np.uint16)
    codes_NL = vlm.imagine(source_codes, LEFT, 3, seed=0, temperature=20.0)
    expected = to_images(vlm.codec.decode(torch.from_numpy(codes_NL.astype(np.int64))))
    assert list(map(pixels, step.samples)) == list(map(pixels, expected))
    triplets = [CodeTriplet(source_codes, codes, LEFT) for codes in codes_NL]
    assert step.scores == pytest.approx(vlm.score(triplets))
    assert step.best == int(np.argmax(step.scores))


def test_the_best_image_of_a_step_is_where_the_next_starts(source: str, model: str):
    first, second = imagined(source, model, LEFT, RIGHT).steps
    assert pixels(second.source) == pixels(first.samples[first.best]) != pixels(first.source)
    assert (first.action, second.action) == (LEFT, RIGHT)


def test_samples_do_not_depend_on_their_number_and_a_single_one_has_a_score(source: str, model: str):
    [one], [three] = (imagined(source, model, LEFT, num=num).steps for num in (1, 3))
    assert one.best == 0
    assert one.scores == pytest.approx(three.scores[:1])
    alone, among = (np.asarray(step.samples[0], np.int16) for step in (one, three))
    np.testing.assert_allclose(alone, among, atol=1)  # how many are decoded at once moves a level by rounding


def test_the_folder_holds_the_best_images_a_sheet_and_the_record(source: str, model: str, tmp_path: Path):
    out = tmp_path / "new" / "folder"
    result = imagined(source, model, LEFT, RIGHT, out=out)
    record = json.loads((out / "imagined.json").read_text())
    assert record == result.record
    fingerprint = identify(model).fingerprint
    assert record["world"] == record["dynamics"] == {"name": model, "fingerprint": fingerprint}
    assert [step["seed"] for step in record["steps"]] == [0, 1]
    for step, written in zip(result.steps, record["steps"], strict=True):
        assert (written["action"], written["scores"]) == (step.action, step.scores)
        with Image.open(out / written["image"]) as image:
            assert pixels(image) == pixels(step.samples[written["best"]])
    with Image.open(out / record["sheet"]) as sheet:
        assert sheet.height > sheet.width / 2
    assert len(list(out.iterdir())) == 4


def test_an_earlier_imagination_is_replaced_whole(source: str, model: str, tmp_path: Path):
    imagined(source, model, LEFT, RIGHT, out=tmp_path)
    imagined(source, model, RIGHT, out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"best-1.png", "imagined.json", "sheet.png"}


def test_only_files_of_the_earlier_imagination_are_removed(source: str, model: str, tmp_path: Path):
    imagined(source, model, LEFT, out=tmp_path)
    mine = tmp_path / "best-practice.png"
    mine.write_text("mine")
    imagined(source, model, LEFT, RIGHT, out=tmp_path)
    assert mine.read_text() == "mine"
    (tmp_path / "best-3.png").write_text("mine")
    with pytest.raises(
        ConfigError, match=r"has a best-3.png that the earlier imagination there does not list"
    ):
        imagined(source, model, LEFT, RIGHT, LEFT, out=tmp_path)
    assert (tmp_path / "best-3.png").read_text() == "mine"
    assert (tmp_path / "best-2.png").is_file()


def test_a_record_cannot_name_other_files_for_removal(source: str, model: str, tmp_path: Path):
    precious = tmp_path / "precious.png"
    precious.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    names = ["../precious.png", str(precious), "best-1.png/../../precious.png"]
    record = {"steps": [{"image": name} for name in names], "sheet": "../precious.png"}
    (out / "imagined.json").write_text(json.dumps(record))
    imagined(source, model, LEFT, out=out)
    assert precious.read_text() == "mine"


def test_a_record_of_something_else_is_kept(source: str, model: str, tmp_path: Path):
    (tmp_path / "imagined.json").write_text('{"mine": 1}')
    with pytest.raises(ConfigError, match="has other files"):
        imagined(source, model, LEFT, out=tmp_path)
    assert (tmp_path / "imagined.json").read_text() == '{"mine": 1}'


def test_a_folder_with_other_files_is_refused(source: str, model: str, tmp_path: Path):
    (tmp_path / "best-1.png").write_text("mine")
    for out, complaint in ((tmp_path, "has other files"), (tmp_path / "best-1.png", "cannot be a folder")):
        with pytest.raises(ConfigError, match=complaint):
            imagined(source, model, LEFT, out=out)
    assert (tmp_path / "best-1.png").read_text() == "mine"


def test_an_action_that_is_too_long_for_a_model_is_refused(source: str, model: str):
    with pytest.raises(ConfigError, match="is too long for world model") as refused:
        imagined(source, model, "left " * 3000)
    assert len(str(refused.value)) < 400


def test_an_action_without_any_known_word_gives_a_warning(source: str, model: str):
    with pytest.warns(
        UserWarning, match="no word of 'ballo di San Vito' is in the vocabulary of .*tiny, which"
    ):
        imagined(source, model, LEFT, "ballo di San Vito")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        imagined(source, model, "shove the ottoman")


def test_a_model_without_likelihoods_is_refused(source: str, tmp_path: Path):
    broken = tiny_vlm()
    torch.nn.init.constant_(broken.network.get_output_embeddings().weight, torch.nan)
    broken.save(tmp_path)
    with pytest.raises(ModelError, match="scores that are not finite"):
        imagined(source, str(tmp_path), LEFT)
