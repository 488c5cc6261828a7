from dataclasses import replace
from pathlib import Path

import pytest
import typer

from kinescribe.cli import main
from kinescribe.commands.next_steps import print_next_steps
from kinescribe.schemas.likelihoods import Familiarity
from kinescribe.storage.audit import DatasetStatus, check, status
from tests.tiny_vlm import tiny_vlm
from tests.videos import pan, still, write_video


def finished(**counts: int) -> DatasetStatus:
    """The status of a dataset of 4 clips."""
    kept, reasons = counts.pop("kept", 0), dict(counts)
    rejected = reasons.get("unreadable", 0)
    return DatasetStatus(4, kept, 4 - kept - rejected, rejected, 0, 5 * kept, reasons)


def test_a_dataset_with_rows_leads_to_a_report_and_a_selection(capsys: pytest.CaptureFixture[str]):
    print_next_steps("label", finished(kept=2, static=2), "out/my dataset/", quiet=False)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "the dataset is in out/my dataset/; next:",
        "  kinescribe report 'out/my dataset' --out 'out/my dataset.html'",
        "  kinescribe curate 'out/my dataset' --top-k 5 --out 'out/my dataset-selection.parquet'",
    ]
    assert captured.out == ""
    print_next_steps("label", finished(kept=2, static=2), "out", quiet=True)
    assert capsys.readouterr().err == ""


def test_clips_that_look_unlike_what_the_model_knows_are_a_warning(capsys: pytest.CaptureFixture[str]):
    known = replace(finished(kept=2, static=2), familiarity=Familiarity(-0.16, -0.003, 0.9))
    print_next_steps("label", known, "out", quiet=True)
    assert capsys.readouterr().err.startswith("warning: these clips look unlike what this model knows")


def test_a_finished_dataset_without_a_kept_clip_is_a_failure_with_its_reasons(
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(typer.Exit) as leaving:
        print_next_steps("label", finished(static=3, unreadable=1), "out", quiet=True)
    assert leaving.value.exit_code == 1
    said = capsys.readouterr().err
    assert said.startswith("no clip was kept: of 4 clips, 3 static, 1 unreadable\n")
    assert "kinescribe status --rejects out" in said
    assert "lower keyframes.min_motion" in said


def test_an_ingest_of_nothing_has_no_retry(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(typer.Exit):
        print_next_steps("ingest", finished(static=3, unreadable=1), "out", quiet=True)
    assert capsys.readouterr().err.splitlines()[1:] == [
        "see what is wrong with each rejected clip: kinescribe status --rejects out",
        "mend them, then ingest them into another folder",
    ]


def test_a_dataset_that_another_run_still_writes_is_no_failure(capsys: pytest.CaptureFixture[str]):
    print_next_steps(
        "label", DatasetStatus(4, 0, 1, 1, 2, 0, {"static": 1, "timeout": 1}), "out", quiet=False
    )
    assert capsys.readouterr().err == ""


@pytest.mark.ray
@pytest.mark.slow
def test_label_of_junk_exits_with_1_and_leaves_the_dataset(
    ray_here: object, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    tiny_vlm().save(tmp_path / "model")
    (tmp_path / "clips").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "clips" / f"{name}.mp4").write_text("junk")
    write_video(tmp_path / "clips" / "wall.mp4", still(50))
    out = str(tmp_path / "out")
    label = ["label", str(tmp_path / "clips"), "--out", out, "--dynamics", str(tmp_path / "model")]

    def exit_code(*options: str) -> str | int | None:
        with pytest.raises(SystemExit) as leaving:
            main([*label, "--json", *options])
        return leaving.value.code

    assert exit_code() == 1
    captured = capfd.readouterr()
    assert "no clip was kept: of 4 clips, 1 static, 3 unreadable" in captured.err
    assert captured.out.startswith('{"clips": 4, "kept": 0')
    assert (status(out).rejected, check(out).problems) == (3, [])
    for name in ("a", "b", "c"):
        write_video(tmp_path / "clips" / f"{name}.mp4", pan(50))
    assert exit_code("--retry-rejected") == 0
    assert status(out).kept == 3
