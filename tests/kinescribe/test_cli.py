import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from kinescribe.cli import main
from kinescribe.schemas.clips import Clip, WorkUnit, stable_id
from kinescribe.schemas.dataset import triplet_schema
from kinescribe.schemas.estimate import Estimate, Interval
from kinescribe.schemas.outcomes import ClipOutcome, DropReason, RejectCode, Status
from kinescribe.schemas.version import VERSION
from kinescribe.storage.audit import status
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.estimate import write_estimate
from kinescribe.storage.plan import plan_digest, write_plan
from kinescribe.storage.run import Run, bind
from kinescribe.storage.selection import read_selection
from kinescribe.storage.shards import unit_uri, write_unit
from tests.tiny_dataset import build
from tests.tiny_triplets import write_triplets
from tests.tiny_vlm import tiny_vlm

FIRST_UNIT, SECOND_UNIT = stable_id("first"), stable_id("second")
IMAGINE = ("imagine", "--world", "nowhere", "--source", "nowhere.png", "--out", "out/never")
HEAVY = (
    "av",
    "datasets",
    "deepspeed",
    "matplotlib",
    "polars",
    "pyarrow",
    "pydantic",
    "ray",
    "torch",
    "transformers",
)


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """Three clips: one dropped, one rejected, one pending."""
    folder, schema = str(tmp_path / "dataset"), triplet_schema("vq", (2, 2))
    clips = [Clip("c0", "a.mp4"), Clip("c1", "b.mp4"), Clip("c2", "c.mp4")]
    done, pending = WorkUnit(FIRST_UNIT, tuple(clips[:2])), WorkUnit(SECOND_UNIT, tuple(clips[2:]))
    bind(folder, Run(VERSION, {}, {"dynamics": "m"}, "vq", (2, 2), plan_digest(clips)))
    write_plan(folder, [done, pending])
    outcomes = [
        ClipOutcome("c0", Status.DROPPED, reason=DropReason.STATIC),
        ClipOutcome("c1", Status.REJECTED, reason=RejectCode.NO_VIDEO, message="audio only"),
    ]
    write_unit(folder, done, pa.Table.from_pylist([], schema=schema), outcomes)
    return folder


def finish(dataset: str) -> None:
    outcomes = [ClipOutcome("c2", Status.DROPPED, reason=DropReason.STATIC)]
    rows = pa.Table.from_pylist([], schema=triplet_schema("vq", (2, 2)))
    write_unit(dataset, WorkUnit(SECOND_UNIT, (Clip("c2", "c.mp4"),)), rows, outcomes)


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    assert isinstance(leaving.value.code, int)
    return leaving.value.code


def test_help_imports_nothing_heavy():
    probe = f"import sys, kinescribe.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_is_printed(capsys: pytest.CaptureFixture[str]):
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"{VERSION}\n"


def test_status_as_json_is_one_object_with_the_promised_keys(
    dataset: str, capsys: pytest.CaptureFixture[str]
):
    assert exit_code("status", dataset, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "clips": 3,
        "kept": 0,
        "dropped": 1,
        "rejected": 1,
        "pending": 1,
        "triplets": 0,
        "reasons": {"no_video": 1, "static": 1},
        "familiarity": None,
    }


@pytest.mark.parametrize(
    ("text", "what"),
    [(None, "is the estimate of a run with another input"), ("{}", "is not an estimate, or damaged")],
)
def test_status_counts_also_beside_an_estimate_that_is_not_of_this_run(
    text: str | None, what: str, dataset: str, capsys: pytest.CaptureFixture[str]
):
    triplets, stage_s = Interval(4, 2, 6), {"decode": 1.5, "label": 2.5, "write": 0.5}
    write_estimate(dataset, Estimate("another", 3, 2, 2, 0.25, triplets, 1000, stage_s, False, 0, 0, 3.0))
    if text is not None:
        Path(dataset, "estimate.json").write_text(text)
    assert exit_code("status", dataset, "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["pending"] == 1
    (warning,) = shown.err.splitlines()
    assert warning.startswith(f"warning: {dataset}/estimate.json {what}")
    assert "plan" in warning
    assert exit_code("status", dataset) == 0
    assert "no_video" in capsys.readouterr().out


def test_each_rejected_clip_is_a_json_line(dataset: str, capsys: pytest.CaptureFixture[str]):
    assert exit_code("status", dataset, "--rejects") == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"uri": "b.mp4", "start_s": None, "end_s": None, "code": "no_video", "message": "audio only"}
    ]


def test_status_for_people_names_every_reason(dataset: str, capsys: pytest.CaptureFixture[str]):
    assert exit_code("status", dataset) == 0
    shown = capsys.readouterr().out
    assert "no_video" in shown
    assert "static" in shown


def test_models_are_listed_with_what_they_can_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert exit_code("models") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("embedded-world ", "chameleon", "liquid", "emu3", "-pix2pix "))
    tiny_vlm().save(tmp_path)
    capsys.readouterr()  # DeepSpeed, which transformers imports to save, says which processor it found
    assert exit_code("models", str(tmp_path), "--json") == 0
    (model,) = json.loads(capsys.readouterr().out)
    assert (model["family"], model["grid"]) == ("kinescribe", [4, 4])
    assert model["does"] == ["describe", "score", "imagine"]


def test_check_of_a_whole_dataset_is_ok(dataset: str, capsys: pytest.CaptureFixture[str]):
    finish(dataset)
    assert exit_code("check", dataset, "--json") == 0
    whole = {"ok": True, "clips": 3, "triplets": 0, "problems": [], "frames": None}
    assert json.loads(capsys.readouterr().out) == whole


def test_check_exits_with_1_and_names_what_is_wrong(dataset: str, capsys: pytest.CaptureFixture[str]):
    finish(dataset)
    Path(unit_uri(dataset, FIRST_UNIT)).write_bytes(b"not Parquet")
    assert exit_code("check", dataset, "--json") == 1
    result = json.loads(capsys.readouterr().out)
    assert not result["ok"]
    assert any(FIRST_UNIT in problem for problem in result["problems"])


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    """Three triplets of one class."""
    build(str(tmp_path / "labelled"), [2, 1])
    return str(tmp_path / "labelled")


def test_curate_prints_counts_and_writes_a_selection_and_a_dataset(
    labelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, best = str(tmp_path / "selection.parquet"), str(tmp_path / "best")
    arguments = [
        "curate",
        labelled,
        "--top-k",
        "2",
        "--min-score",
        "-0.2",
        "--out",
        out,
        "--materialize",
        best,
    ]
    assert exit_code(*arguments, "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "seen": 3,
        "dropped": {"min_score": 1},
        "chosen": 2,
        "missing": 0,
        "classes": 1,
        "per_class": {"fewest": 2, "median": 2, "most": 2},
        "duplicates": {},
    }
    assert read_selection(out).rows["score"].to_pylist() == [0, 0]
    assert (status(best).clips, status(best).triplets) == (2, 2)
    assert exit_code(*arguments) == 0
    assert "min_score" in capsys.readouterr().out


def test_curate_says_where_there_are_too_few(
    labelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert exit_code("curate", labelled, "--top-k", "9", "--out", str(tmp_path / "selection.parquet")) == 0
    assert "only 3 triplets were left to choose from; took all" in capsys.readouterr().err


def test_imagine_prints_the_record_on_stdout_and_warnings_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tiny_vlm().save(tmp_path / "model")
    Image.new("RGB", (32, 32)).save(tmp_path / "source.png")
    out = tmp_path / "out"
    capsys.readouterr()  # what saving a model printed
    arguments = [
        "imagine",
        "--source",
        str(tmp_path / "source.png"),
        "--actions",
        "move the ball left; dance",
    ]
    arguments += [f"--{task}={tmp_path / 'model'}" for task in ("world", "dynamics")]
    assert exit_code(*arguments, "-n", "2", "--seed", "4", "--out", str(out), "--json") == 0
    shown = capsys.readouterr()
    record = json.loads(shown.out)
    assert record == {"out": str(out), **json.loads((out / "imagined.json").read_text())}
    assert [(step["action"], step["seed"]) for step in record["steps"]] == [
        ("move the ball left", 4),
        ("dance", 5),
    ]
    assert "warning: no word of 'dance'" in shown.err


def test_train_prints_where_the_export_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    model, data, export = tmp_path / "model", tmp_path / "data", tmp_path / "out" / "export"
    tiny_vlm().save(model)
    write_triplets(str(data), 3, tiny_vlm().codec_id)
    monkeypatch.setattr("kinescribe.cluster.train.run_train", lambda config: export)
    arguments = ["train", "world", "--data", str(data), "--out", str(export.parent)]
    arguments += ["--set", f"init={model}", "--set", "steps=1"]
    capsys.readouterr()  # what saving a model printed
    assert exit_code(*arguments) == 0
    assert capsys.readouterr().out == f"{export}\n"
    assert exit_code(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"export": str(export)}


def test_curate_by_a_contrast_that_is_not_there_names_the_option_that_writes_it(
    labelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = str(tmp_path / "selection.parquet")
    assert exit_code("curate", labelled, "--top-k", "1", "--score", "contrast", "--out", out) == 2
    assert "--scores likelihood,contrast" in capsys.readouterr().err
    assert not Path(out).exists()


def test_report_prints_where_the_page_is(dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "pages" / "report.html"
    assert exit_code("report", dataset, "--out", str(page)) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert page.read_text().startswith("<!doctype html>")


def test_report_compares_two_datasets(
    dataset: str, labelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    page = tmp_path / "comparison.html"
    assert exit_code("report", "--compare", dataset, labelled, "--out", str(page)) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert "two datasets" in page.read_text()


def test_simulated_clips_lie_in_folders_of_their_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert exit_code("simulate", "clips", "--out", str(tmp_path), "--num", "1") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "clips")
    truth = json.loads((tmp_path / "truth.jsonl").read_text())
    assert [path.relative_to(tmp_path / "clips").as_posix() for path in tmp_path.glob("clips/*/*.mp4")] == [
        truth["video"]
    ]


def test_a_name_in_an_error_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]):
    assert exit_code("status", "/nowhere/\x1b[2J\x07") == 2
    assert "/nowhere/\\x1b[2J\\x07" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["status", "nowhere"], ["nowhere", "not a Kinescribe dataset", "name the folder"]),
        (["status", ""], ["empty"]),
        (["label", "", "--out", "y"], ["empty"]),
        (["label", "x", "--out", "y", "--config", "nowhere.yaml"], ["--config nowhere.yaml"]),
        (
            ["label", "x", "--out", "y", "--set", "keyframes.min_interval=0"],
            ["keyframes.min_interval", "got 0"],
        ),
        (["label", "x", "--out", "y", "--set", "keyframe=0"], ["keyframe", "did you mean keyframes?"]),
        (["label", "x", "--out", "y", "--micro-batch", "0"], ["micro_batch", "got 0"]),
        (["label", "x", "--out", "y", "--label-gpus", "1.5"], ["label_gpus", "whole number", "got 1.5"]),
        (["curate", "x", "--top-k", "0", "--out", "x"], ["top_k", "got 0"]),
        (["report", "x", "--out", "x/run.json"], ["out 'x/run.json'", "ends in .html"]),
        (["imagine", "--world", "x", "--source", "y"], ["--action", "--actions"]),
        ([*IMAGINE, "--action", "a", "--actions", "b"], ["--action", "--actions"]),
        ([*IMAGINE, "--action", "a", "-n", "0"], ["num_samples", "got 0"]),
        ([*IMAGINE, "--action", " ! "], ["actions.0", "in words", "got ' ! '"]),
        ([*IMAGINE, "--actions", "pan left; ; pan right"], ["actions.1", "in words"]),
        ([*IMAGINE, "--action", "a", "--temperature", "0"], ["temperature", "got 0"]),
        ([*IMAGINE, "--action", "a"], ["nowhere.png", "no such file"]),
        (["train", "codec", "--set", "steps=1"], ["data", "out"]),
        (["report", "a", "b", "--out", "x.html"], ["one dataset, or --compare", "got 2"]),
        (["report", "--compare", "a", "--out", "x.html"], ["two datasets after --compare", "got 1"]),
    ],
)
def test_what_the_user_can_mend_is_an_error_without_a_traceback(
    arguments: list[str], names: list[str], capsys: pytest.CaptureFixture[str]
):
    assert exit_code(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert "Traceback" not in shown.err
    for name in names:
        assert name in shown.err


def test_interrupting_a_command_exits_with_130_and_no_traceback(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "kinescribe",
        "simulate",
        "clips",
        "--out",
        str(tmp_path),
        "--num",
        "9999",
    ]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while running.poll() is None and not any(tmp_path.rglob("*.mp4")):
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, complaints = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "Traceback" not in complaints


def test_an_unknown_option_exits_with_2():
    assert exit_code("status", "x", "--jsno") == 2


@pytest.mark.ray
@pytest.mark.slow
def test_label_prints_one_json_object_on_stdout_and_nothing_else(tmp_path: Path):
    tiny_vlm().save(tmp_path / "model")
    dataset = str(tmp_path / "dataset")
    options = ["--dynamics", str(tmp_path / "model"), "--scores", "likelihood,contrast", "--json"]
    for arguments in (
        ["simulate", "clips", "--out", str(tmp_path), "--num", "1"],
        ["label", str(tmp_path / "clips"), "--out", dataset, *options],
    ):
        command = [sys.executable, "-m", "kinescribe", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == asdict(status(dataset))
    assert "1/1 clips" in done.stderr
    contrasts = Dataset.open(dataset).scan(["action_contrast"]).to_table()["action_contrast"]
    assert len(contrasts) > contrasts.null_count == 0


def test_ingest_prints_one_json_object_on_stdout_and_nothing_else(tmp_path: Path):
    tiny_vlm().save(tmp_path / "model")
    item = {"input": "a.jpg", "output": "b.jpg", "instruction": "paint it"}
    (tmp_path / "test.json").write_text(json.dumps([item]))
    command = [sys.executable, "-m", "kinescribe", "ingest", str(tmp_path / "test.json"), "--json"]
    command += [
        "--out",
        str(tmp_path / "out"),
        "--dynamics",
        str(tmp_path / "model"),
        "--decode-workers",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    result = json.loads(done.stdout)
    assert (result["clips"], result["reasons"]) == (1, {"missing": 1})
    assert done.returncode == 1
    assert "no clip was kept: of 1 clip, 1 missing" in done.stderr
