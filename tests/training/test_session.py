import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kinescribe.models.codec import ImageCodec
from kinescribe.models.registry import load_model
from kinescribe.schemas.errors import ConfigError, DatasetError, ModelError
from kinescribe.schemas.training import DynamicsTraining, TrainConfig
from kinescribe.training.checkpoints import checkpoint_folder
from kinescribe.training.session import TrainSession
from tests.hub_server import COMMIT, HubServer, asked_instead
from tests.tiny_triplets import write_triplets
from tests.training_curve import curve, exported

ROOT = Path(__file__).parents[2]


def run(config: TrainConfig) -> list[dict[str, float]]:
    """Train in this process; returns the curve."""
    TrainSession(config, lambda _: None, print).run()
    return curve(config)


def run_processes(
    folder: Path, *configs: DynamicsTraining, last_step: int = -1, workers: int | None = None
) -> list[int]:
    """Train one configuration after the other, in a process for each worker; returns exit codes."""
    folder.mkdir()
    workers = workers or configs[0].engine.workers
    files = [folder / f"{index}.json" for index in range(len(configs))]
    for file, config in zip(files, configs, strict=True):
        file.write_text(config.model_dump_json())
    command = [sys.executable, "-m", "tests.training_process", str(last_step)]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(workers), str(folder / "store"), *map(str, files)], cwd=ROOT
        )
        for rank in range(workers)
    ]
    return [process.wait() for process in processes]


@pytest.fixture
def mixed(world, dataset, labelled):
    """Makes a configuration of a world model on both kinds of actions."""
    return partial(world, data=[dataset, labelled], mix={"supervised": 0.25, "labelled": 0.75})


def checkpoint_file(config: TrainConfig, step: int) -> Path:
    """The largest file of a checkpoint."""
    files = checkpoint_folder(Path(config.out) / "checkpoints", step).rglob("*.pt")
    return max(files, key=lambda path: path.stat().st_size)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def assert_same_weights(one: TrainConfig, other: TrainConfig) -> None:
    ours, theirs = exported(one), exported(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.usefixtures("process_group")
class TestOneProcess:
    def test_dynamics_learns_and_its_export_opens(self, dynamics, dataset, model_folder):
        config = dynamics(steps=60, held_out=[dataset], evaluate_every=60, log_every=20, checkpoint_every=20)
        reports: list[dict[str, float]] = []
        TrainSession(config, lambda metrics: reports.append(dict(metrics)), print).run()
        losses = [line["loss"] for line in curve(config) if "loss" in line]
        assert losses[-1] < losses[0] - 0.5
        assert reports[0]["step"] == 20
        assert reports[0]["steps"] == 60
        assert 0 < reports[-1]["held_out_loss"] < losses[0]
        export = load_model(str(Path(config.out) / "export"))
        assert export.fingerprint != load_model(str(model_folder)).fingerprint
        assert export.codec.id == load_model(str(model_folder)).codec.id

    @pytest.mark.parametrize("weights", ["l2", "none"])
    def test_the_world_model_learns_and_its_export_opens(self, world, weights):
        config = world(steps=60, log_every=20, checkpoint_every=20, evaluate_every=60, weights=weights)
        losses = [line["loss"] for line in run(config)]
        assert losses[-1] < losses[0] - 0.3
        assert load_model(str(Path(config.out) / "export")).layout.num_codes == 16

    def test_a_mix_with_a_group_that_the_data_lacks_is_refused(self, world):
        with pytest.raises(ConfigError, match=r"mix.labelled is 0.5.*no labelled"):
            TrainSession(world(mix={"supervised": 0.5, "labelled": 0.5}), print, print)
        TrainSession(world(mix={"supervised": 1.0, "labelled": 0.0}), print, print)

    def test_training_on_codes_loads_no_codec(self, world, monkeypatch):
        def refuse(folder):
            raise AssertionError(f"loaded {folder}")

        monkeypatch.setattr(ImageCodec, "load", refuse)
        run(world(steps=2))
        monkeypatch.undo()
        assert load_model(str(Path(world().out) / "export")).codec.grid == (4, 4)

    def test_the_codec_learns_and_its_export_opens(self, codec, dataset):
        config = codec(steps=20, held_out=[dataset], evaluate_every=20, checkpoint_every=10)
        lines = run(config)
        assert lines[-2]["loss"] < lines[0]["loss"]
        assert {"held_out_loss", "held_out_psnr", "held_out_perplexity"} < lines[-1].keys()
        assert ImageCodec.load(Path(config.out) / "export").num_codes == 12

    def test_a_codec_that_is_trained_further_keeps_its_codes(self, codec, tmp_path):
        first = codec(steps=4)
        run(first)
        export = Path(first.out) / "export"
        again = codec(
            steps=1, init=str(export), out=str(tmp_path / "more"), optimization={"learning_rate": 1e-9}
        )
        run(again)
        old, new = (ImageCodec.load(folder).network for folder in (export, Path(again.out) / "export"))
        moved = (new.quantize.embedding.weight - old.quantize.embedding.weight).abs().max()
        assert moved < old.quantize.embedding.weight.abs().max() / 2

    def test_a_new_model_speaks_the_datasets_words(self, dynamics, dataset, model_folder):
        model = {"codec": str(model_folder / "codec"), "hidden": 16, "layers": 1, "heads": 2}
        config = dynamics(init=None, model=model, steps=2)
        run(config)
        layout = load_model(str(Path(config.out) / "export")).layout
        assert len(layout.text("move the red ball left")) == 6

    def test_only_adapters_are_trained_and_the_export_is_merged(self, dynamics, model_folder):
        config = dynamics(lora={"rank": 2, "alpha": 4, "dropout": 0.1})
        run(config)
        export = Path(config.out) / "export"
        adapter = load_file(export / "adapter" / "adapter_model.safetensors")
        assert all(".lora_" in name for name in adapter)
        old, new = (load_file(folder / "model.safetensors") for folder in (model_folder, export))
        changed = {name for name in old if not torch.equal(old[name], new[name])}
        assert changed == {name for name in old if "_proj" in name}

    def test_the_adapter_of_a_hub_model_names_its_commit(self, dynamics, model_folder, tmp_path):
        with asked_instead(HubServer({"me/ours": model_folder}), tmp_path / "cache"):
            config = dynamics(init=f"me/ours@{COMMIT}", lora={"rank": 2})
            run(config)
        adapter = json.loads((Path(config.out) / "export" / "adapter" / "adapter_config.json").read_text())
        assert (adapter["base_model_name_or_path"], adapter["revision"]) == ("me/ours", COMMIT)

    @pytest.mark.parametrize("stage", [1, 3])
    def test_sharded_weights_are_exported_whole(self, dynamics, tmp_path, stage):
        plain, sharded = dynamics(), dynamics(out=str(tmp_path / "sharded"), engine={"zero_stage": stage})
        expected = run(plain)
        assert [line["loss"] for line in run(sharded)] == pytest.approx(
            [line["loss"] for line in expected], rel=1e-2
        )
        ours, theirs = exported(plain), exported(sharded)
        assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in theirs.items()}

    @pytest.mark.parametrize(("stage", "lora"), [(0, True), (2, False), (3, True)])
    def test_a_resumed_world_model_is_the_undisturbed_one(self, mixed, tmp_path, stage, lora):
        """Random dropout, sharded state and the mix go on where they were, past a damaged checkpoint."""
        adapters = {"rank": 2, "alpha": 4, "dropout": 0.5} if lora else None
        changes = {"lora": adapters, "engine": {"zero_stage": stage}}
        whole, broken = mixed(**changes), mixed(out=str(tmp_path / "broken"), **changes)
        run(whole)
        run(broken)
        flip_a_bit(checkpoint_file(broken, 6))
        said: list[str] = []
        TrainSession(broken, print, said.append).run()
        assert "step-00000006 is skipped" in said[0]
        assert said[1].endswith("resumed after step 4")
        assert curve(broken) == curve(whole)
        assert_same_weights(whole, broken)

    def test_a_run_with_only_damaged_checkpoints_does_not_start_over(self, mixed):
        config = mixed()
        before = run(config)
        for step in (4, 6):
            flip_a_bit(checkpoint_file(config, step))
        with pytest.raises(ModelError, match="none of the 2 checkpoints"):
            run(config)
        assert curve(config) == before

    def test_codes_of_another_codec_are_refused(self, dynamics, tmp_path):
        write_triplets(str(tmp_path / "other"), 3, "another")
        with pytest.raises(DatasetError, match="another"):
            run(dynamics(data=[str(tmp_path / "other")]))

    def test_a_finished_run_takes_no_step(self, dynamics):
        config = dynamics()
        before = run(config)
        reports: list[object] = []
        TrainSession(config, reports.append, print).run()
        assert reports == []
        assert curve(config) == before


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_a_killed_and_resumed_run_equals_an_undisturbed_one(dynamics, tmp_path):
    whole, killed = dynamics(), dynamics(out=str(tmp_path / "killed"))
    assert run_processes(tmp_path / "first", killed, last_step=5) == [-signal.SIGKILL]
    assert not (Path(killed.out) / "export").exists()
    assert run_processes(tmp_path / "second", killed) == [0]
    assert curve(killed) == run(whole)
    assert_same_weights(whole, killed)


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_two_workers_train_like_one_with_and_without_sharding(dynamics, dataset, tmp_path):
    """Also where there are fewer batches to measure by than workers."""
    given = {"held_out": [dataset], "held_out_samples": 1}
    one = dynamics(engine={"precision": "fp32"}, micro_batch=2, **given)
    both = [
        dynamics(
            out=str(tmp_path / f"stage{stage}"),
            engine={"precision": "fp32", "workers": 2, "zero_stage": stage},
            **given,
        )
        for stage in (0, 3)
    ]
    assert run_processes(tmp_path / "processes", *both) == [0, 0]
    expected = run(one)
    for config in both:
        for name in ("loss", "held_out_loss"):
            measured, wanted = (
                [line[name] for line in lines if name in line] for lines in (curve(config), expected)
            )
            assert measured == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_the_remaining_worker_continues_alone(dynamics, tmp_path):
    one = dynamics(engine={"precision": "fp32"}, micro_batch=2)
    engine = {"precision": "fp32", "workers": 2, "min_workers": 1}
    lost = dynamics(out=str(tmp_path / "lost"), engine=engine)
    assert run_processes(tmp_path / "both", lost, last_step=5)[0] == -signal.SIGKILL
    assert run_processes(tmp_path / "left", lost, workers=1) == [0]
    assert [line["loss"] for line in curve(lost)] == pytest.approx(
        [line["loss"] for line in run(one)], rel=1e-4
    )
    assert_same_weights(one, lost)
