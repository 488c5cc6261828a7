import json
from dataclasses import replace
from pathlib import Path

import pytest

from kinescribe.cli import main
from kinescribe.display import print_result, print_tables
from kinescribe.schemas.config import load_config
from kinescribe.schemas.estimate import CostPlan, Estimate, Interval, Machines, Offer
from kinescribe.storage.audit import DatasetStatus
from kinescribe.storage.estimate import Comparison
from tests.tiny_vlm import tiny_vlm
from tests.videos import pan, write_video

EXAMPLES = Path(__file__).parents[2] / "configs" / "machines.yaml"
ESTIMATE = Estimate(
    fingerprint="run",
    clips=1000,
    units=63,
    sampled=30,
    rejected=0.125,
    triplets=Interval(4000, 3500, 4500),
    size_bytes=2_500_000_000,
    stage_s={"decode": 3600.0, "label": 7200.0, "write": 36.0},
    gpu=False,
    card_bytes=0,
    model_bytes=0,
    startup_s=30.0,
)
PLAN = CostPlan(ESTIMATE, 1.5, "label", (Offer("big", True, 3, 0.5, 1.25, "decode"),), {"small": "too slow"})


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(("plan", *arguments))
    assert isinstance(leaving.value.code, int)
    return leaving.value.code


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_plan_is_printed_with_results_time_and_cost(
    capsys: pytest.CaptureFixture[str],
):
    print_result(PLAN, as_json=False)
    shown = lines(capsys)
    assert "triplets 4,000 3,500 to 4,500 (95 %)" in shown
    assert "rejected clips 12.5%" in shown
    assert "storage 2.500 GB" in shown
    assert "label 2.000 h of one core" in shown
    assert "on this machine 1.500 h most of it to label" in shown
    assert "big spot 3 30.00 min 1.25 decode" in shown
    assert "small: too slow" in shown


def test_a_small_plan_has_small_units(capsys: pytest.CaptureFixture[str]):
    small = replace(ESTIMATE, size_bytes=1500, stage_s={"decode": 0.25, "label": 90.0, "write": 0.0})
    offer = Offer("big", False, 1, 2.5, 3.0, "label")
    print_result(replace(PLAN, estimate=small, here_hours=0.01, offers=(offer,)), as_json=False)
    shown = lines(capsys)
    assert "storage 1.500 kB" in shown
    assert "decode 0.250 s of one core" in shown
    assert "label 1.500 min of one core" in shown
    assert "write 0.000 s of one core" in shown
    assert "on this machine 36.000 s most of it to label" in shown
    assert "big on demand 1 2.50 h 3.00 label" in shown


def test_the_table_of_machines_has_room_for_the_longest_name(capsys: pytest.CaptureFixture[str]):
    offers = tuple(Offer(name, True, 3, 0.5, 1.25, "decode") for name in ("b", "x" * 40, "\x1b" * 9))
    print_result(replace(PLAN, offers=offers), as_json=False)
    *_, heading, short, long, escaped, _, _ = capsys.readouterr().out.splitlines()
    assert {row.index(" spot ") for row in (short, long, escaped)} == {43}
    assert heading.index("cost") + len("cost") == long.index("1.25") + len("1.25")
    assert f"  {'x' * 40}  spot" in long


def test_status_shows_what_was_planned_for_the_part_that_is_done(capsys: pytest.CaptureFixture[str]):
    status = DatasetStatus(1000, 400, 50, 50, 500, 2100, {})
    compared = Comparison(ESTIMATE, 1_000_000_000, {"decode": 2160.0, "write": 9.0})
    print_tables(compared.tables(status))
    shown = lines(capsys)
    assert "planned in all by now is" in shown
    assert "triplets 4,000 2,000 2,100" in shown
    assert "storage, GB 2.500 1.250 1.000" in shown
    assert "decode, h 1.000 0.500 0.600" in shown
    assert "write, s 36.000 18.000 9.000" in shown


def test_the_examples_of_machines_can_be_read():
    assert len(load_config(Machines, EXAMPLES.read_text()).machines) > 1


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("machines: []", ["machines: give at least 1 machine, got an empty list"]),
        (
            "machines: [{name: a, cpus: 2}]",
            ["machines.0.price_per_hour: required, but not given", "machines.0.gpus"],
        ),
        ("machines: [{name: a, cpus: 0}]", ["machines.0.cpus: must be above 0, got 0"]),
        (
            EXAMPLES.read_text().replace("interruptions_per_hour", "# "),
            ["interruptions_per_hour, or neither"],
        ),
        ("machine: 1", ["machine: unknown key; did you mean machines?"]),
        ("[", ["cannot be read as YAML"]),
    ],
)
def test_a_wrong_file_of_machines_is_refused_before_anything_starts(
    text: str, names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "machines.yaml").write_text(text)
    assert exit_code("nowhere", "--machines", str(tmp_path / "machines.yaml")) == 2
    complaint = capsys.readouterr().err
    for name in ["--machines", "configs/machines.yaml", *names]:
        assert name in complaint


@pytest.mark.parametrize(
    ("field", "value"),
    [("price_per_hour", "-1"), ("price_per_hour", ".nan"), ("price_per_hour", "$3.00"), ("cpus", "0")],
)
def test_only_the_wrong_values_of_a_machine_are_reported(
    field: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    values = {"name": "a", "cpus": "2", "gpus": "0", "memory_gib": "8", "boot_minutes": "1"}
    entry = ", ".join(
        f"{key}: {one}" for key, one in (values | {"price_per_hour": "1", field: value}).items()
    )
    (tmp_path / "machines.yaml").write_text(f"machines: [{{{entry}}}]")
    assert exit_code("nowhere", "--machines", str(tmp_path / "machines.yaml")) == 2
    (complaint,) = capsys.readouterr().err.splitlines()
    assert f"machines.0.{field}: " in complaint


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--deadline", "-1"], ["deadline_h: must be above 0, got -1"]),
        (["--deadline", "5"], ["a deadline of 5 hours needs machines", "give the available machines"]),
        (["--machines", "nowhere.yaml"], ["--machines nowhere.yaml cannot be read"]),
        (["--plot", "plan.jpg"], ["--plot plan.jpg"]),
        ([], ["nowhere does not exist"]),
    ],
)
def test_wrong_options_are_refused(
    arguments: list[str], names: list[str], capsys: pytest.CaptureFixture[str]
):
    assert exit_code("nowhere", *arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    for name in names:
        assert name in shown.err


@pytest.mark.ray
@pytest.mark.slow
def test_a_plan_is_printed_plotted_and_kept_even_if_no_machine_keeps_the_deadline(
    ray_here: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model, videos, out = tmp_path / "model", tmp_path / "videos", tmp_path / "out"
    tiny_vlm().save(model)
    videos.mkdir()
    for index in range(3):
        write_video(videos / f"{index}.mp4", pan(50))
    capsys.readouterr()
    arguments = [str(videos), "--sample", "2", "--dynamics", str(model), "--json"]
    arguments += ["--machines", str(EXAMPLES), "--dataset", str(out), "--plot", str(tmp_path / "plan.png")]
    assert exit_code(*arguments, "--deadline", "0.000001") == 2
    shown = capsys.readouterr()
    assert "no machine labels 3 clips within 1e-06 hours" in shown.err
    result = json.loads(shown.out)
    assert result["estimate"]["triplets"]["expected"] > 0
    assert result["offers"] == []
    assert json.loads((out / "estimate.json").read_text()) == result["estimate"]
    assert (tmp_path / "plan.png").is_file()
