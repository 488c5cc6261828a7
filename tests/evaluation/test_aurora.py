import csv
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinescribe.evaluation.aurora import evaluate_aurora
from kinescribe.evaluation.aurora_data import LeftOut
from kinescribe.evaluation.aurora_scores import LESS, MORE, AuroraScores
from kinescribe.evaluation.model_outputs import read_outputs
from kinescribe.schemas.config import AuroraConfig
from kinescribe.schemas.errors import ConfigError
from tests.judge_server import Answer, JudgeServer, serving
from tests.tiny_benchmark import item, write_benchmark
from tests.tiny_encoders import write_clip, write_dino
from tests.tiny_families import NAMES, SIDE, tiny_family
from tests.tiny_vlm import tiny_vlm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_vlm().save(folder)
    return str(folder)


def difference(source: np.ndarray, target: np.ndarray) -> float:
    assert source.shape == target.shape
    return float(np.abs(source.astype(float) - target).mean())


def run(data: Path, out: Path, **config: object) -> AuroraScores:
    count = nullcontext(lambda done, total: None)
    return evaluate_aurora(data, AuroraConfig.model_validate(config), out, difference, lambda things: count)


def table(out: Path) -> list[dict[str, str]]:
    with (out / "samples.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_subset_and_half_is_measured_beside_the_copy(model: str, tmp_path: Path):
    data = write_benchmark(tmp_path / "data")
    encoders = {"clip": str(write_clip(tmp_path / "clip")), "dino": str(write_dino(tmp_path / "dino"))}
    scores = run(data, tmp_path / "out", world=model, dynamics=model, num_samples=2, runs=2, **encoders)
    groups = ["all", "magicbrush", "ag", "something", "whatsup", "kubric", MORE, LESS]
    assert {row: list(by_group) for row, by_group in scores.scores.items()} == {
        "model": groups,
        "copy": groups,
    }
    assert list(scores.scores["model"]["all"]) == ["l1", "clip_i", "clip_t", "dino"]
    assert scores.scores["model"]["all"]["l1"].num == 20
    assert scores.scores["model"]["all"]["l1"].std is not None
    # In half of the cases nothing moves, so that a copy is the truth.
    copy = scores.scores["copy"]
    assert (copy[LESS]["l1"].mean, copy[LESS]["dino"].mean) == pytest.approx((0, 1), abs=1e-5)
    assert 0 < copy[MORE]["l1"].mean < scores.scores["model"][MORE]["l1"].mean
    assert len(table(tmp_path / "out")) == 30


def test_values_are_those_of_the_images_that_are_kept(model: str, tmp_path: Path):
    run(write_benchmark(tmp_path / "data", 1), tmp_path / "out", world=model)
    outputs = read_outputs(tmp_path / "out")
    rows = {row["case"]: row for row in table(tmp_path / "out") if row["row"] == "model"}
    assert set(outputs) == set(rows)
    for name, output in outputs.items():
        image = np.asarray(Image.open(tmp_path / "out" / output.output), float)
        target = np.asarray(Image.open(tmp_path / "out" / "images" / f"{name}-target.png"), float)
        assert float(rows[name]["l1"]) == pytest.approx(np.abs(image - target).mean() / 255, abs=1e-6)


def test_it_goes_on_where_it_was_stopped_and_a_judge_comes_later(model: str, tmp_path: Path):
    data, out = write_benchmark(tmp_path / "data", 1), tmp_path / "out"
    run(data, out, world=model)
    images = {file: file.stat().st_mtime_ns for file in out.glob("images/*-run0.png")}
    lost = out / "images" / "ag-000-run0.png"
    before = lost.read_bytes()
    lost.unlink()
    good, bad = Answer('{"editing": 3, "minimal": 7}'), Answer("no idea")
    with serving(JudgeServer([bad], good)) as server:
        scores = run(data, out, world=model, judge=f"judge@{server.url}")
        assert len(server.asked) == 10
    assert lost.read_bytes() == before
    assert {file: file.stat().st_mtime_ns for file in images if file != lost} == {
        file: time for file, time in images.items() if file != lost
    }
    assert scores.judge_failures == {"unparsable": 1}
    judged = [scores.scores[row]["all"]["judge"] for row in ("model", "copy")]
    assert {spread.mean for spread in judged} == {3.0}
    assert sum(spread.num for spread in judged) == 9
    assert {output.judge for output in read_outputs(out).values()} <= {3.0, None}
    assert sum(row["judge"] == "" for row in table(out)) == 1


def test_runs_differ_and_are_the_same_when_drawn_again(model: str, tmp_path: Path):
    data = write_benchmark(tmp_path / "data", 1)
    run(data, tmp_path / "a", world=model, runs=2)
    run(data, tmp_path / "b", world=model, runs=2)
    first, second = (
        {file.name: file.read_bytes() for file in (tmp_path / name / "images").iterdir()} for name in "ab"
    )
    assert first == second
    assert first["ag-000-run0.png"] != first["ag-000-run1.png"]
    assert first["ag-000-run0.png"] != first["kubric-000-run0.png"]


def test_cases_that_cannot_be_used_are_left_out_with_a_reason(model: str, tmp_path: Path):
    data = write_benchmark(tmp_path / "data", 1)
    items = [item(data / "ag", "ag", 0), item(data / "ag", "ag", 1, instruction="move " * 5000)]
    items += [item(data / "ag", "ag", 2)]
    (data / "ag" / items[2]["input"]).write_bytes(b"not an image")
    (data / "ag" / "test.json").write_text(json.dumps(items))
    scores = run(data, tmp_path / "out", world=model)
    assert scores.scores["model"]["ag"]["l1"].num == 1
    long, broken = scores.left_out
    assert long == LeftOut("ag-001", "instruction too long for the model")
    assert broken.id == "ag-002"
    assert "not an image" in broken.reason


def test_a_folder_of_other_images_is_not_written_to(model: str, tmp_path: Path):
    data, out = write_benchmark(tmp_path / "data", 1), tmp_path / "out"
    run(data, out, world=model)
    with pytest.raises(ConfigError, match="seed differ"):
        run(data, out, world=model, seed=1)
    for number, name in enumerate(("thesis.txt", "images/holiday.png", "aurora.json")):
        mine = tmp_path / f"other{number}" / name
        mine.parent.mkdir(parents=True)
        mine.write_text("{}")
        with pytest.raises(ConfigError, match="not an evaluation's"):
            run(data, tmp_path / f"other{number}", world=model)
        assert [path for path in mine.parent.rglob("*") if path.is_file()] == [mine]


@pytest.mark.parametrize("family", NAMES)
def test_a_published_model_imagines_at_its_codecs_size(family: str, tmp_path: Path):
    model, data = str(tiny_family(family, tmp_path / "model")), write_benchmark(tmp_path / "data", 1)
    scores = run(data, tmp_path / "out", world=model, dynamics=model, num_samples=2)
    assert scores.scores["model"]["all"]["l1"].num == 5
    shapes = {np.asarray(Image.open(file)).shape for file in (tmp_path / "out" / "images").iterdir()}
    assert shapes == {(4 * SIDE, 4 * SIDE, 3)}


def test_samples_need_someone_who_chooses():
    with pytest.raises(ValueError, match="give dynamics"):
        AuroraConfig(world="w", num_samples=4)
