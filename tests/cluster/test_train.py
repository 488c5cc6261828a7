import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from cluster.train import absolute, print_progress, run_train
from models.registry import load_model
from schemas.errors import ConfigError, DatasetError
from schemas.training import DynamicsTraining, Engine
from tests.tiny_triplets import write_triplets
from tests.tiny_vlm import tiny_vlm


@pytest.fixture
def config(model_folder, tmp_path) -> DynamicsTraining:
    write_triplets(str(tmp_path / "triplets"), 24, tiny_vlm().codec.id)
    return DynamicsTraining.model_validate(
        {
            "data": [str(tmp_path / "triplets")],
            "out": str(tmp_path / "out"),
            "init": model_folder,
            "steps": 40,
            "batch": 4,
            "log_every": 2,
            "evaluate_every": 40,
            "checkpoint_every": 10,
            "engine": {"workers": 2, "zero_stage": 1},
        }
    )


def train_workers() -> list[psutil.Process]:
    """Of the Ray that this process started, and of no other."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if "RayTrainWorker" in " ".join(process.cmdline())]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_lost_worker_is_started_again_and_a_finished_run_is_recognised(config):
    steps: list[float] = []

    def progress(metrics) -> None:
        if metrics["step"] == 24 and 24 not in steps:
            os.kill(train_workers()[0].pid, signal.SIGKILL)
        steps.append(metrics["step"])

    export = run_train(config, progress)
    assert load_model(str(export)).fingerprint != load_model(config.init).fingerprint
    assert steps[-1] == 40
    lost = steps.index(24) + 1
    assert min(steps[lost:]) in (12, 22), steps

    shutil.rmtree(export / "codec")
    assert run_train(config, progress) == export
    assert steps.count(40) == 1
    with pytest.raises(DatasetError, match=r"seed: 0 → 1"):
        run_train(config.model_copy(update={"seed": 1}))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_users_error_in_a_worker_ends_the_run_at_once(config, tmp_path):
    write_triplets(str(tmp_path / "other"), 3, "another")
    changes = {"data": (str(tmp_path / "other"),), "engine": Engine()}
    with pytest.raises(DatasetError, match="the dataset's codes are of codec another"):
        run_train(config.model_copy(update=changes))


def test_an_object_store_is_no_folder_to_train_in(config):
    with pytest.raises(ConfigError, match="s3://bucket/run"):
        run_train(config.model_copy(update={"out": "s3://bucket/run"}))


def test_progress_is_a_line_with_the_time_left(capsys):
    print_progress({"step": 20, "steps": 100, "loss": 1.25, "left_s": 64.0})
    assert capsys.readouterr().err == "step 20/100: loss 1.25, left_s 64\n"


def test_workers_in_another_folder_find_every_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"data": ["triplets", "s3://bucket/more"], "held_out": ["test"], "out": "run", "steps": 1}
    found = absolute(DynamicsTraining.model_validate(given | {"model": {"codec": "codec"}}))
    assert found.data == (str(tmp_path / "triplets"), "s3://bucket/more")
    assert (found.out, found.held_out) == (str(tmp_path / "run"), (str(tmp_path / "test"),))
    assert found.model
    assert found.model.codec == str(tmp_path / "codec")
    assert absolute(DynamicsTraining.model_validate(given | {"init": "embedded"})).init == "embedded"


def test_folders_of_runs_are_absolute(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("out", "export").mkdir(parents=True)
    assert run_train(config.model_copy(update={"out": "out"})) == tmp_path / "out" / "export"
