"""Each family end to end: codec, triplets, two fine-tunes, labels, imagined targets."""

import json
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from kinescribe.models.checkpoint_files import identify
from kinescribe.storage.audit import check
from kinescribe.storage.dataset import Dataset
from tests.command_line import assert_adapter_is_the_export, evaluate_aurora, run, train
from tests.tiny_families import NAMES, SENTENCES, keep_decoder, write_chameleon, write_emu3, write_liquid
from tests.videos import pan, texture, write_video


def write_model(name: str, folder: Path) -> Path:
    """A published checkpoint with its codec."""
    source = {"chameleon": write_chameleon, "emu3": write_emu3, "liquid": write_liquid}[name](folder)
    if name == "chameleon":
        keep_decoder(folder)  # as Anole's conversions for transformers do
        source = folder
    run("codec", source, "--out", folder / "codec")
    return folder


def write_aurora(folder: Path) -> Path:
    """Triplets in the form of AURORA's JSON."""
    folder.mkdir()
    triplets = []
    for number in range(8):
        for side in ("input", "output"):
            Image.fromarray(texture(number + 100 * (side == "output"), 48, 48)).save(
                folder / f"{side}{number}.png"
            )
        images = {side: f"{side}{number}.png" for side in ("input", "output")}
        triplets.append({"instruction": SENTENCES[number % len(SENTENCES)], **images})
    (folder / "train.json").write_text(json.dumps(triplets))
    return folder / "train.json"


def label(folder: Path, dynamics: Path) -> Path:
    """A video of a moving camera and its labels."""
    (folder / "videos").mkdir()
    write_video(folder / "videos" / "pan.mp4", pan(70))
    few = ("--set", "annotation.max_new_tokens=8")
    run("label", folder / "videos", "--out", folder / "labelled", "--dynamics", dynamics, *few)
    return folder / "labelled"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("ray_here")
@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_published_model_is_fine_tuned_labels_videos_and_imagines(name: str, tmp_path: Path):
    model, given, imagined = write_model(name, tmp_path / "model"), tmp_path / "given", tmp_path / "imagined"
    run("ingest", write_aurora(tmp_path / "aurora"), "--out", given, "--dynamics", model)
    dynamics = train("dynamics", tmp_path / "idm", model, "--data", given, "--set", "lora.rank=4")
    auto = AutoModelForCausalLM if name == "liquid" else AutoModelForImageTextToText
    assert_adapter_is_the_export(auto, model, dynamics)

    labelled = label(tmp_path, dynamics)
    assert check(str(labelled)).ok
    rows = Dataset.open(str(labelled)).scan().to_table().to_pylist()
    assert len(rows) >= 2
    assert all(row["action"].strip() and row["action_logprob"] < 0 for row in rows)
    assert rows[0]["target_codes"] == rows[1]["source_codes"]

    mixed = ("--data", given, "--data", labelled, "--mix", "supervised=0.5,labelled=0.5")
    world = train("world", tmp_path / "fdm", model, *mixed)
    assert identify(str(world)).codec == identify(str(dynamics)).codec == identify(str(model)).codec

    asked = ("--source", tmp_path / "aurora" / "input0.png", "--action", SENTENCES[0], "-n", 4)
    run("imagine", *asked, "--world", world, "--dynamics", dynamics, "--out", imagined)
    (step,) = json.loads((imagined / "imagined.json").read_text())["steps"]
    assert len(set(step["scores"])) == 4, step["scores"]
    with Image.open(imagined / step["image"]) as best:
        assert best.size == (16, 16)

    evaluate_aurora(tmp_path, "--world", world, "--dynamics", dynamics, "-n", 2)
