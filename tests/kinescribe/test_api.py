from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import kinescribe
import kinescribe.cluster.label
import kinescribe.cluster.train
from kinescribe.schemas.config import KeyFrames, LabelConfig, Resources
from kinescribe.storage.selection import read_selection
from tests.tiny_dataset import build
from tests.tiny_vlm import tiny_vlm


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three triplets of one class."""
    build(str(tmp_path / "dataset"), [2, 1])
    return tmp_path / "dataset"


@pytest.fixture
def labelled_with(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of each labelling run, none of which starts."""
    calls = list[Any]()
    monkeypatch.setattr(
        kinescribe.cluster.label,
        "run_label",
        lambda *arguments, **options: calls.append((arguments, options)),
    )
    return calls


def test_label_has_defaults(labelled_with: list[Any], tmp_path: Path):
    kinescribe.label("clips", tmp_path / "dataset")
    ((arguments, _),) = labelled_with
    assert arguments == ("clips", str(tmp_path / "dataset"), LabelConfig(), Resources())


def test_options_go_before_the_configuration(labelled_with: list[Any]):
    config = LabelConfig(dynamics="theirs", keyframes=KeyFrames(max_keyframes=3))
    kinescribe.label(
        Path("clips"),
        "dataset",
        config,
        dynamics=Path("mine"),
        keyframes={"min_interval": 10},
        retry_rejected=True,
    )
    ((arguments, options),) = labelled_with
    assert arguments[2] == LabelConfig(dynamics="mine", keyframes=KeyFrames(max_keyframes=3, min_interval=10))
    assert options["retry_rejected"]


def test_an_unknown_option_is_refused_with_the_one_that_was_meant(labelled_with: list[Any]):
    with pytest.raises(kinescribe.ConfigError, match="dynamic: unknown key; did you mean dynamics"):
        kinescribe.label("clips", "dataset", dynamic="embedded")
    assert labelled_with == []


def test_status_and_check_take_a_path(dataset: Path):
    assert kinescribe.status(dataset) == kinescribe.status(str(dataset))
    assert kinescribe.check(dataset).ok


@pytest.mark.parametrize("several", [False, True])
def test_curate_takes_a_dataset_or_several_and_options(dataset: Path, tmp_path: Path, several: bool):
    out = tmp_path / "selection.parquet"
    sources = [dataset] if several else dataset
    curated = kinescribe.curate(sources, out, top_k=2, stratify_by="video", materialize=tmp_path / "best")
    assert curated.chosen == 2
    assert read_selection(str(out)).options["by"] == "video"
    assert kinescribe.status(tmp_path / "best").triplets == 2


def test_a_text_is_one_dataset(dataset: Path, tmp_path: Path):
    assert kinescribe.curate(str(dataset), tmp_path / "selection.parquet", top_k=1).chosen == 1


def test_curate_needs_a_number(dataset: Path, tmp_path: Path):
    with pytest.raises(kinescribe.ConfigError, match="top_k: required, but not given"):
        kinescribe.curate(dataset, tmp_path / "selection.parquet")


def test_report_and_export_write_to_a_path(dataset: Path, tmp_path: Path):
    kinescribe.report(dataset, tmp_path / "report.html")
    kinescribe.report(dataset, tmp_path / "report.html")
    kinescribe.export(dataset, tmp_path / "tars")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "tars" / "000000.tar").is_file()


def test_train_takes_paths_and_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(kinescribe.cluster.train, "run_train", lambda config: config)
    config: Any = kinescribe.train("world", tmp_path, tmp_path / "out", init="embedded-world", steps=3)
    assert (config.data, config.out, config.steps) == ((str(tmp_path),), str(tmp_path / "out"), 3)


def test_imagine_takes_one_action_as_a_text(tmp_path: Path):
    tiny_vlm().save(tmp_path / "model")
    Image.new("RGB", (32, 32)).save(tmp_path / "source.png")
    models = dict.fromkeys(("world", "dynamics"), tmp_path / "model")
    imagination = kinescribe.imagine(
        tmp_path / "source.png", "move the ball left", tmp_path / "out", num_samples=2, **models
    )
    assert [len(step.samples) for step in imagination.steps] == [2]
    assert (tmp_path / "out" / "sheet.png").is_file()


def test_a_model_is_loaded_from_a_path(tmp_path: Path):
    tiny_vlm().save(tmp_path / "model")
    assert kinescribe.load_model(tmp_path / "model").codec_id == tiny_vlm().codec_id


@pytest.mark.parametrize("write", ["label", "ingest", "train", "export"])
def test_a_file_in_the_place_of_a_folder_is_refused(write: str, tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    options = {"init": "embedded-world", "steps": 1} if write == "train" else {}
    arguments = ("world",) if write == "train" else ()
    with pytest.raises(kinescribe.ConfigError, match=r"out is a file; name a folder"):
        getattr(kinescribe, write)(*arguments, "nowhere", tmp_path / "out" / "dataset", **options)


def test_a_page_does_not_replace_another_kind_of_file(dataset: Path, tmp_path: Path):
    page = tmp_path / "thesis.html"
    page.write_text("<p>mine")
    with pytest.raises(kinescribe.ConfigError, match=r"another kind of file; remove it, or name another"):
        kinescribe.report(dataset, page)
    assert page.read_text() == "<p>mine"


def test_resources_may_be_keywords(labelled_with: list[Any]):
    kinescribe.label("clips", "dataset", resources=Resources(label_gpus=0.5), decode_workers=2, dynamics="x")
    ((arguments, _),) = labelled_with
    assert arguments[2:] == (LabelConfig(dynamics="x"), Resources(decode_workers=2, label_gpus=0.5))


def test_curate_notes_the_old_name_of_an_option(dataset: Path, tmp_path: Path):
    with pytest.warns(FutureWarning, match="by is now stratify_by; the next version drops the old name"):
        kinescribe.curate(dataset, tmp_path / "selection.parquet", top_k=1, by="video")
    assert read_selection(str(tmp_path / "selection.parquet")).options["by"] == "video"


def test_progress_counts_units(dataset: Path, tmp_path: Path):
    seen = list[tuple[int, int]]()
    kinescribe.export(dataset, tmp_path / "tars", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]
