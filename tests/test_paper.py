"""`--dry-run` of label and train, from the command line, with the paper's recipes."""

import json
from pathlib import Path

import pytest

from kinescribe.cli import main
from kinescribe.models.checkpoint_files import identify
from kinescribe.schemas.config import LabelConfig, load_config
from tests.tiny_families import NUM_CODES, SIDE, tiny_family
from tests.tiny_triplets import write_triplets

CONFIGS = Path(__file__).parents[1] / "configs"


def printed(capfd: pytest.CaptureFixture[str], *arguments: str) -> dict[str, int]:
    capfd.readouterr()  # what importing has to say
    with pytest.raises(SystemExit) as leaving:
        main([*arguments, "--dry-run", "--json"])
    assert not leaving.value.code
    return json.loads(capfd.readouterr().out)


@pytest.mark.parametrize("name", ["dynamics", "world"])
def test_the_papers_trainings_run_dry(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    anole = tiny_family("chameleon", tmp_path / "anole")
    data = str(tmp_path / "data")
    write_triplets(data, 640, identify(str(anole)).codec.id, NUM_CODES, SIDE)
    given = {"init": str(anole), "data": [data], "out": str(tmp_path / "out")}
    options = [part for key, value in given.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    plan = printed(capfd, "train", name, "--config", str(CONFIGS / "paper" / f"{name}.yaml"), *options)
    assert plan["steps"] == {"dynamics": 10 * 640 // 64, "world": -(-40 * 640 // 96)}[name]
    assert plan["workers"] == 4
    assert 0 < plan["trained_parameters"] < plan["parameters"]
    assert plan["activation_bytes"] > 0
    assert not (tmp_path / "out").exists()


def test_the_papers_labelling_runs_dry_and_knows_the_classes_of_its_corpora(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    for name in ("train/abseiling/a.mp4", "val/abseiling/b.mp4", "val/zumba/c.mp4"):
        (tmp_path / "kinetics" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "kinetics" / name).write_bytes(b"12345")
    out = tmp_path / "dataset"
    config = ("--config", str(CONFIGS / "paper" / "label.yaml"), "--dynamics", "embedded")
    plan = printed(capfd, "label", str(tmp_path / "kinetics"), "--out", str(out), *config)
    assert plan == {"clips": 3, "action_classes": 2, "size_bytes": 15, "units": 1, "pending_units": 1} | {
        "prompt": None
    }
    assert not out.exists()


def test_the_papers_labelling_is_a_configuration():
    config = load_config(LabelConfig, (CONFIGS / "paper" / "label.yaml").read_text())
    assert (config.keyframes.max_keyframes, config.keyframes.min_interval) == (6, 20)


@pytest.mark.parametrize("command", ["label", "train"])
def test_a_dry_run_refuses_the_folder_of_another_run(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    data, out = str(tmp_path / "data"), str(tmp_path / "out")
    write_triplets(data, 4, identify("embedded").codec.id)
    write_triplets(out, 4, "vq-of-another-run")
    (tmp_path / "a.mp4").write_bytes(b"12345")
    arguments = {
        "label": ["label", str(tmp_path / "a.mp4"), "--out", out],
        "train": [
            "train",
            "dynamics",
            "--data",
            data,
            "--out",
            out,
            "--set",
            "init=embedded",
            "--set",
            "steps=1",
        ],
    }[command]
    with pytest.raises(SystemExit) as leaving:
        main([*arguments, "--dry-run"])
    assert leaving.value.code == 2
    assert "belongs to another run" in capfd.readouterr().err
