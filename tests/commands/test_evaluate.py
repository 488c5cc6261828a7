import json
import shutil
from pathlib import Path

import pytest

from kinescribe.cli import main
from kinescribe.evaluation.human_study import read_key
from tests.tiny_benchmark import write_benchmark
from tests.tiny_encoders import write_text_encoder
from tests.tiny_outputs import write_outputs
from tests.tiny_triplets import write_triplets
from tests.tiny_vlm import tiny_vlm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_vlm().save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("data") / "triplets")
    write_triplets(folder, 20, tiny_vlm().codec_id)
    return folder


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(("evaluate", *arguments))
    assert isinstance(leaving.value.code, int)
    return leaving.value.code


def result(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_world_prints_one_object_and_draws(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plot = tmp_path / "world.png"
    assert exit_code("world", "--world", model, "--num", "2", "--json", "--plot", str(plot)) == 0
    assert set(result(capsys)["scores"]) == {"model", "copy", "codec"}
    assert plot.is_file()


def test_best_of_n_prints_both_choices_for_each_n(model: str, capsys: pytest.CaptureFixture[str]):
    arguments = ("--world", model, "--dynamics", model, "--n", "2, 1", "--num", "2", "--json")
    assert exit_code("best-of-n", *arguments) == 0
    assert {name: list(means) for name, means in result(capsys)["judge"].items()} == {
        "verified": ["1", "2"],
        "oracle": ["1", "2"],
    }


def test_preference_is_of_the_task_that_is_asked_for(
    model: str, dataset: str, capsys: pytest.CaptureFixture[str]
):
    assert exit_code("preference", model, dataset, "--task", "world", "--num", "10", "--json") == 0
    shown = result(capsys)
    assert (shown["task"], shown["triplets"]) == ("world", 10)


def test_dynamics_has_words_beside_accuracy(
    model: str, dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    plot, encoder = tmp_path / "labels.png", write_text_encoder(tmp_path / "encoder")
    arguments = ("--dynamics", model, "--json", "--plot", str(plot))
    assert exit_code("dynamics", dataset, *arguments, "--bertscore", str(encoder)) == 0
    words = result(capsys)["wording"]
    assert set(words) == {"rouge_1", "rouge_l", "bleu", "bertscore"}
    assert isinstance(words["bertscore"], float)
    assert plot.is_file()


def test_aurora_prints_one_object_and_keeps_what_was_made(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data, out, plot = write_benchmark(tmp_path / "data"), tmp_path / "out", tmp_path / "aurora.png"
    arguments = ("aurora", "--data", str(data), "--world", model, "--out", str(out), "--plot", str(plot))
    assert exit_code(*arguments, "--json") == 0
    shown = result(capsys)
    assert (shown["out"], shown["left_out"]) == (str(out), [])
    # What moves is measured here: the second case of each subset does.
    assert shown["scores"]["copy"]["less motion"]["l1"] == {"mean": 0, "std": None, "num": 5}
    assert shown["scores"]["copy"]["more motion"]["l1"]["mean"] > 0
    assert plot.is_file()
    assert exit_code(*arguments) == 0
    assert "less motion  copy " in capsys.readouterr().out
    copy = shutil.copytree(out, tmp_path / "copy")
    assert exit_code("human", "build", f"--model=a={out}", f"--model=b={copy}", "--out", f"{out}.html") == 0


def test_a_human_study_is_built_and_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page, plot, export = (tmp_path / name for name in ("study.html", "study.png", "export.json"))
    models = [f"--model={name}={folder}" for name, folder in write_outputs(tmp_path).items()]
    assert exit_code("human", "build", *models, "--out", str(page), "--num", "2") == 0
    key = Path(capsys.readouterr().out.split()[1])
    study = read_key(key)
    best, worst, *_ = study.questions["q0"]
    answers = {"q0": {"realism": {"best": best, "worst": worst}}}
    export.write_text(json.dumps({"study": study.study, "rater": "Ann", "answers": answers}))
    arguments = ("human", "score", str(export), "--key", str(key))
    assert exit_code(*arguments, "--json", "--plot", str(plot)) == 0
    scores = result(capsys)["criteria"]["realism"]["scores"]
    assert scores[study.questions["q0"][best].model]["mean"] == 1
    assert plot.is_file()
    assert exit_code(*arguments) == 0
    assert "realism, -1 to +1" in capsys.readouterr().out


def test_a_forged_export_is_one_short_line_of_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "key.json").write_text('{"study": "s", "models": [], "questions": {}}')
    long = "\x1b[2J<script>" + "x" * 1_000_000
    for export in ({"study": long}, {"answers": {long: {}}}, {"rater": long, "answers": {"q": {}}}):
        written = {"study": "s", "rater": "r", "answers": {}} | export
        (tmp_path / "export.json").write_text(json.dumps(written))
        assert (
            exit_code("human", "score", str(tmp_path / "export.json"), "--key", str(tmp_path / "key.json"))
            == 2
        )
        shown = capsys.readouterr().err
        assert shown.startswith("error: ")
        assert (shown.count("\n"), "\x1b" in shown, len(shown) < 5000) == (1, False, True)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("aurora", "--data", "nowhere", "-n", "4"), ["4 samples need", "give dynamics"]),
        (("aurora", "--data", "nowhere"), ["--data nowhere", "test.json"]),
        (("human", "build", "--out", "x.html", "--model", "ours"), ["--model ours", "NAME=FOLDER"]),
        (("human", "build", "--out", "x.html", "--model", "a=b", "--model", "a=c"), ["same name"]),
        (("human", "score", "x.json", "--key", "nowhere.json"), ["--key nowhere.json"]),
        (("world", "--world", "nowhere"), ["nowhere", "no model"]),
        (("world", "--world", "nowhere", "-n", "4"), ["4 samples need", "give dynamics"]),
        (("world", "--world", "nowhere", "--plot", "a.gif"), ["a.gif", ".png"]),
        (("best-of-n", "--world", "nowhere", "--n", "1,x"), ["1,x", "1,2,4,8"]),
        (("best-of-n", "--world", "nowhere", "--n", "0"), ["counts.0: must be above 0, got 0"]),
    ],
)
def test_what_the_user_can_mend_is_said_before_a_model_is_loaded(
    arguments: tuple[str, ...], names: list[str], capsys: pytest.CaptureFixture[str]
):
    assert exit_code(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    for name in names:
        assert name in shown.err
