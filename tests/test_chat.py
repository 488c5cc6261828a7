"""Chat models end to end: labels, scores, and a choice among imagined targets."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText

from kinescribe.cli import main
from kinescribe.models.checkpoint_files import EMBEDDED, identify_codec
from kinescribe.schemas.outcomes import RejectCode
from kinescribe.storage.audit import check, outcomes
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.run import read_run
from tests.command_line import assert_adapter_is_the_export, evaluate_aurora, run, train
from tests.judge_server import Answer, JudgeServer, serving
from tests.tiny_chat import CHATS, tiny_chat
from tests.tiny_dataset import build
from tests.tiny_triplets import write_triplets
from tests.tiny_vlm import tiny_vlm
from tests.videos import pan, write_video

LONG = (pytest.mark.slow, pytest.mark.long)
FEW = ("--set", "annotation.max_new_tokens=8")


def label(folder: Path, num: int, *options: object) -> list[dict]:
    """The rows that come of `num` videos of a moving camera."""
    for index in range(num):
        (folder / "videos").mkdir(exist_ok=True)
        write_video(folder / "videos" / f"pan{index}.mp4", pan(70))
    out = folder / "labelled"
    run("label", folder / "videos", "--out", out, *FEW, *options)
    assert check(str(out)).ok
    return Dataset.open(str(out)).scan().to_table().to_pylist()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("name", [CHATS[0], *(pytest.param(name, marks=LONG) for name in CHATS[1:])])
def test_a_chat_model_labels_videos_beside_the_embedded_codec(name: str, tmp_path: Path):
    """And sees examples, and frames between the two."""
    model = tiny_chat(name, tmp_path / "model")
    build(str(tmp_path / "examples"), [2])
    shown = ("--set", f"annotation.examples={tmp_path}/examples", "--set", "annotation.context_frames=2")
    rows = label(tmp_path, 1, "--dynamics", model, "--scores", "likelihood,contrast", *shown)
    assert len(rows) >= 2
    for row in rows:
        frames = [row["source"], *row["context"], row["target"]]
        assert len({frame["bytes"] for frame in frames}) == 4
        assert row["action_logprob"] < 0
        assert 1 <= row["action_tokens"] <= 8
        assert row["finish_reason"] in ("stop", "length")
        assert row["action_contrast"] is not None
    codec = identify_codec(EMBEDDED["embedded"] / "codec")
    assert {len(row["importance"]) for row in rows} == {codec.grid[0] * codec.grid[1]}
    assert rows[0]["target_codes"] == rows[1]["source_codes"]


def test_a_dry_run_shows_what_the_model_gets_for_a_clip(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    write_video(tmp_path / "pan.mp4", pan(30))
    (tmp_path / "clips.csv").write_text("uri,action_class,camera\npan.mp4,a dance,left<|im_end|>\n")
    model = tiny_chat("llava", tmp_path / "model")
    question = "annotation.question='What of {action_class}, seen by {camera}?'"
    options = ("--columns", "camera", "--set", question, "--dry-run", "--show-prompt", "--json")

    def prompt(model: object) -> str:
        capfd.readouterr()
        run("label", tmp_path / "clips.csv", *options, "--out", tmp_path / "out", "--dynamics", model)
        return json.loads(capfd.readouterr().out)["prompt"]

    with serving(JudgeServer(always=Answer("nothing", finish_reason="stop"))) as server:
        shown = prompt(f"vlm@{server.url}")
    assert shown == "user: [image] [image] What of a dance, seen by left?"
    assert len(server.asked) == 1
    assert prompt(model).endswith("What of a dance, seen by left? ASSISTANT:")
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_server_labels_videos_and_the_clip_that_it_fails_on_is_rejected(tmp_path: Path):
    """The codes are of the codec that is named."""
    codec, dataset = tiny_vlm(), str(tmp_path / "labelled")
    codec.save(tmp_path / "other")
    said, refused = Answer("pan left", finish_reason="stop"), Answer(status=400, body=b"no")
    with serving(JudgeServer([said, refused], said)) as server:  # it is asked once before the run
        named = ("--dynamics", f"vlm@{server.url}", "--set", f"codec={tmp_path / 'other'}")
        rows = label(tmp_path, 2, *named)
        rejected = [end for end in outcomes(Dataset.open(dataset).footers()) if end.reason]
        assert [(end.reason, end.message) for end in rejected] == [
            (RejectCode.MODEL_FAILED, "refused: 400 no")
        ]
        run("label", tmp_path / "videos", "--out", dataset, *named, *FEW, "--retry-rejected")
    all_rows = Dataset.open(dataset).scan().to_table().to_pylist()
    assert len(all_rows) == 2 * len(rows)
    assert {(row["action"], row["action_logprob"], row["finish_reason"]) for row in all_rows} == {
        ("pan left", None, "stop")
    }
    assert {len(row["importance"]) for row in rows} == {16}
    assert codec.codec_id == read_run(dataset)["identity"]["codec.id"]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("name", CHATS)
def test_a_fine_tuned_chat_model_labels_and_verifies(name: str, tmp_path: Path):
    """By two workers, with adapters; the data knows two actions, which have four words in common."""
    model, given, world = tiny_chat(name, tmp_path / "model"), tmp_path / "triplets", tmp_path / "world"
    write_triplets(str(given), 8, "vq-of-no-model-here")
    settings = ("steps=60", "checkpoint_every=60", "lora.rank=4", "optimization.learning_rate=0.02")
    options = (word for setting in settings for word in ("--set", setting))
    tuned = train("dynamics", tmp_path / "run", model, "--data", given, *options)
    assert_adapter_is_the_export(AutoModelForImageTextToText, model, tuned)
    rows = label(tmp_path, 1, "--dynamics", tuned)
    assert all(row["action"].startswith("move the red ball") for row in rows), rows
    tiny_vlm().save(world)
    evaluate_aurora(tmp_path, "--world", world, "--dynamics", tuned, "-n", 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--scores", "likelihood,contrast"), "can't score a given action"),
        (("--set", "codec=nowhere"), "no model 'nowhere'"),
    ],
)
def test_unsupported_uses_of_a_server_are_refused_before_anything_starts(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as leaving:
        main(
            [
                "label",
                str(tmp_path),
                "--out",
                str(tmp_path / "out"),
                "--dynamics",
                "m@http://h/v1",
                *arguments,
            ]
        )
    assert leaving.value.code == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_chat_model_measures_and_chooses(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    chat, world = tiny_chat("smolvlm", tmp_path / "chat"), tmp_path / "world"
    tiny_vlm().save(world)
    write_triplets(str(tmp_path / "triplets"), 4, "vq-of-no-model-here")
    run("evaluate", "preference", chat, tmp_path / "triplets", "--json")
    assert json.loads(capsys.readouterr().out)["likelier"]["swapped"]["total"] == 4
    run("evaluate", "dynamics", tmp_path / "triplets", "--dynamics", chat, "--json")
    assert json.loads(capsys.readouterr().out)["exact"]["total"] == 4
    run("evaluate", "best-of-n", "--world", world, "--dynamics", chat, "--n", "2", "--num", "1", "--json")
    assert set(json.loads(capsys.readouterr().out)["judge"]["verified"]) == {"2"}
    image = tmp_path / "source.png"
    image.write_bytes(Dataset.open(str(tmp_path / "triplets")).scan().head(1)["source"][0]["bytes"].as_py())
    asked = ("--source", image, "--action", "move the red ball left", "-n", 4)
    run("imagine", *asked, "--world", world, "--dynamics", chat, "--out", tmp_path / "imagined")
    (step,) = json.loads((tmp_path / "imagined" / "imagined.json").read_text())["steps"]
    assert len(set(step["scores"])) > 1
    assert step["best"] == step["scores"].index(max(step["scores"]))
    evaluate_aurora(tmp_path, "--world", world, "--dynamics", chat, "-n", 2)
