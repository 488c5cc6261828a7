import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from kinescribe.cluster.progress import RESUME
from kinescribe.cluster.resources import ClusterResources
from kinescribe.cluster.train import _identity, absolute, print_progress, run_train, worker_claims
from kinescribe.labeling.curate import curate
from kinescribe.models.registry import load_model
from kinescribe.schemas.config import CurateConfig
from kinescribe.schemas.errors import ConfigError, DatasetError, ModelError
from kinescribe.schemas.training import DynamicsTraining, Engine, TrainConfig, WorldTraining
from kinescribe.storage.run import bind
from tests.processes import below
from tests.tiny_chat import tiny_chat
from tests.tiny_triplets import LABELLED, write_triplets
from tests.tiny_vlm import tiny_vlm
from tests.training_curve import curve, exported

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config(model_folder, tmp_path_factory) -> WorldTraining:
    """A weighted world model on given actions and on chosen ones of a model, over two sharded workers."""
    folder = tmp_path_factory.mktemp("world")
    given, labelled, chosen = (str(folder / name) for name in ("given", "labelled", "chosen.parquet"))
    write_triplets(given, 12, tiny_vlm().codec.id)
    write_triplets(labelled, 24, tiny_vlm().codec.id, **LABELLED)
    curate([labelled], chosen, CurateConfig(top_k=16))
    return WorldTraining.model_validate(
        {
            "data": [given, labelled],
            "select": chosen,
            "mix": {"supervised": 0.25, "labelled": 0.75},
            "out": str(folder / "undisturbed"),
            "init": model_folder,
            "steps": 80,
            "batch": 4,
            "log_every": 4,
            "evaluate_every": 80,
            "checkpoint_every": 20,
            "optimization": {"learning_rate": 0.01, "warmup_steps": 5},
            "engine": {"workers": 2, "zero_stage": 3},
        }
    )


@pytest.fixture(scope="module")
def undisturbed(ray_here, config) -> WorldTraining:
    run_train(config, lambda _: None)
    return config


def assert_same_run(one: TrainConfig, other: TrainConfig) -> None:
    """The same curve, step by step, and the same weights, to rounding."""
    ours, theirs = curve(one), curve(other)
    assert ours == [pytest.approx(line, rel=1e-5, abs=1e-9) for line in theirs]
    torch.testing.assert_close(exported(one), exported(other), rtol=1e-4, atol=1e-6)
    load_model(str(Path(one.out) / "export"))


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_that_lost_a_worker_equals_the_undisturbed_one_and_is_recognised_as_finished(
    undisturbed, tmp_path
):
    config = undisturbed.model_copy(update={"out": str(tmp_path / "out")})
    steps: list[float] = []

    def progress(metrics) -> None:
        if metrics["step"] == 48 and 48 not in steps:
            below(os.getpid(), "RayTrainWorker")[0].kill()
        steps.append(metrics["step"])

    export = run_train(config, progress)
    lost = steps.index(48) + 1
    assert min(steps[lost:]) in (24, 44), steps
    assert_same_run(config, undisturbed)
    left = below(os.getpid(), "RayTrainWorker|TrainController|QueueActor")
    assert psutil.wait_procs(left, timeout=60)[1] == []  # in a Ray that serves further runs

    shutil.rmtree(export / "codec")
    assert run_train(config, progress) == export
    assert steps.count(80) == 1
    with pytest.raises(DatasetError, match=r"seed: 0 → 1"):
        run_train(config.model_copy(update={"seed": 1}))
    more = config.engine.model_copy(update={"workers": 4})
    with pytest.raises(DatasetError, match=r"config\.engine\.workers: 2 → 4"):
        run_train(config.model_copy(update={"engine": more}))


def wait_for_step(config: WorldTraining, step: int, driver: subprocess.Popen[bytes]) -> None:
    while not any(line["step"] >= step for line in curve(config)):
        assert driver.poll() is None
        time.sleep(0.02)


@pytest.mark.ray
@pytest.mark.slow
def test_the_same_command_resumes_after_its_driver_was_killed(undisturbed, end_driver, tmp_path):
    config = undisturbed.model_copy(update={"out": str(tmp_path / "out")})
    (tmp_path / "world.yaml").write_text(config.model_dump_json(exclude={"out", "select", "mix"}))
    options = ["--out", config.out, "--select", config.select, "--mix", "supervised=0.25,labelled=0.75"]
    train = [sys.executable, "-m", "kinescribe", "train", "world", "--config", tmp_path / "world.yaml"]
    with subprocess.Popen([*train, *options], cwd=ROOT, stderr=subprocess.DEVNULL) as driver:
        wait_for_step(config, 0, driver)
        # Workers outlive their driver for seconds, in which these would train to the end, as they would while
        # somebody looks for them.
        workers = below(driver.pid, "RayTrainWorker")
        wait_for_step(config, 24, driver)
        for worker in workers:
            worker.suspend()
        end_driver(driver, signal.SIGKILL)
    assert not Path(config.out, "export").exists()
    again = subprocess.run([*train, *options], cwd=ROOT, check=True, capture_output=True, text=True)
    assert again.stdout == f"{config.out}/export\n"
    steps = [line for line in again.stderr.splitlines() if line.startswith("step ")]
    assert steps[0].startswith(("step 24/80", "step 44/80", "step 64/80"))
    assert "resumed after step" in again.stderr
    assert_same_run(config, undisturbed)


OURS = (
    r"starting Ray",
    r"1 worker loads the model and the data",
    r"12 samples, 4 steps of 4",
    r"the first step took \d+\.\d s",
    r"step 2/4: loss .*, samples_per_s .*, left_s .*",
    r"step 4/4: loss .*",
    r"writing the export",
    r"the export is in \S+; draw with it: kinescribe imagine --world \S+ --source IMAGE --action TEXT",
)


@pytest.mark.ray
@pytest.mark.slow
def test_a_training_says_what_it_does_and_libraries_add_nothing(config, tmp_path):
    options = ["--data", config.data[0], "--out", str(tmp_path / "out")]
    settings = {"init": config.init, "steps": 4, "batch": 4, "log_every": 2, "evaluate_every": 4}
    settings |= {"checkpoint_every": 4, "lora.rank": 2}
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    train = [sys.executable, "-m", "kinescribe", "train", "world", *options, *overrides]
    done = subprocess.run(train, cwd=ROOT, check=True, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert len(lines) == len(OURS), done.stderr
    assert all(map(re.fullmatch, OURS, lines)), done.stderr
    assert done.stdout == f"{tmp_path}/out/export\n"
    again = subprocess.run(train, cwd=ROOT, check=True, capture_output=True, text=True)
    assert again.stderr.splitlines() == lines[-1:]


def test_a_model_that_cannot_be_trained_for_the_task_is_refused_before_ray_starts(config, tmp_path):
    chat = str(tiny_chat("llava", tmp_path / "chat"))
    with pytest.raises(ModelError, match=f"init: {chat} is a chat model, which can't draw images"):
        run_train(config.model_copy(update={"init": chat, "out": str(tmp_path / "out")}))


@pytest.mark.parametrize("name", ["export", "checkpoints"])
def test_a_folder_with_files_of_something_else_is_refused(name, config, tmp_path):
    out = tmp_path / "out"
    (out / name).mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"contains {name} but no run.json; choose an empty folder"):
        run_train(config.model_copy(update={"out": str(out)}))
    assert [path.name for path in out.iterdir()] == [name]


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_ends_a_training_at_once_and_says_how_to_resume(config, end_driver, tmp_path):
    config = config.model_copy(update={"out": str(tmp_path / "out")})
    (tmp_path / "world.yaml").write_text(config.model_dump_json())
    train = [sys.executable, "-m", "kinescribe", "train", "world", "--config", tmp_path / "world.yaml"]
    with subprocess.Popen(train, cwd=ROOT, stderr=subprocess.PIPE, text=True) as driver:
        wait_for_step(config, 24, driver)
        end_driver(driver, signal.SIGINT)
        assert driver.stderr
        assert driver.stderr.read().splitlines()[-1] == RESUME
    assert driver.returncode == 130


def test_workers_claim_gpus_if_the_cluster_has_or_the_user_wants_them():
    none, some = ClusterResources(cpus=8.0, gpus=0.0, memory_bytes=0), Engine(workers=3)
    assert worker_claims(none, some) == {"CPU": 1.0}
    assert worker_claims(replace(none, gpus=4.0, cpus=2.0), some) == {"CPU": 0.5, "GPU": 1.0}
    gpu = Engine(workers=3, accelerator="gpu")
    assert worker_claims(replace(none, grows=True), gpu) == {"CPU": 1.0, "GPU": 1.0}
    with pytest.raises(ConfigError, match=r"engine\.accelerator is gpu, and this machine has none"):
        worker_claims(none, gpu)


def test_workers_claim_a_core_on_a_cluster_whose_head_has_none():
    assert worker_claims(ClusterResources(0.0, 0.0, 0, grows=True), Engine()) == {"CPU": 1.0}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_users_error_in_the_workers_ends_the_run_at_once(config, tmp_path, capsys):
    damaged = config.model_copy(update={"out": str(tmp_path)})
    bind(damaged.out, _identity(damaged))
    (tmp_path / "checkpoints" / "step-00000020").mkdir(parents=True)
    with pytest.raises(ModelError, match="none of the 1 checkpoints"):
        run_train(damaged)
    assert "step-00000020 is skipped: COMPLETE" in capsys.readouterr().err
    assert (tmp_path / "run.json").exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_folder_without_checkpoints_is_free_for_the_corrected_command(config, tmp_path):
    wrong = config.model_copy(update={"out": str(tmp_path), "data": config.data[1:]})
    with pytest.raises(ConfigError, match=r"mix.supervised is 0.25, but the data has no supervised"):
        run_train(wrong)
    assert not (tmp_path / "run.json").exists()


def test_an_object_store_is_no_folder_to_train_in(config):
    with pytest.raises(ConfigError, match="s3://bucket/run"):
        run_train(config.model_copy(update={"out": "s3://bucket/run"}))


def test_a_dataset_that_is_named_twice_is_refused(config):
    given = config.data[0]
    with pytest.raises(DatasetError, match="are the dataset of the same run; name one of them"):
        run_train(config.model_copy(update={"data": (given, f"{given}/../given")}))


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
    for name in ("embedded", f"me/ours@{'0' * 40}"):
        assert absolute(DynamicsTraining.model_validate(given | {"init": name})).init == name


def test_a_finished_run_returns_an_absolute_folder_and_removes_abandoned_exports(
    config, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    finished = config.model_copy(update={"out": "out"})
    bind("out", _identity(finished))
    for name in ("export", ".export-killed"):
        Path("out", name).mkdir(parents=True)
    assert run_train(finished) == tmp_path / "out" / "export"
    assert not Path("out", ".export-killed").exists()
