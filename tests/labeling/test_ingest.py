import io
import itertools
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from kinescribe.labeling.ingest import run_ingest
from kinescribe.models.codec import ImageCodec
from kinescribe.models.token_vlm import TokenVLM
from kinescribe.reports.report import write_report
from kinescribe.schemas.codes import Fit
from kinescribe.schemas.config import IngestConfig
from kinescribe.schemas.errors import DatasetError, InputError, ModelError
from kinescribe.schemas.outcomes import DropReason, RejectCode
from kinescribe.schemas.training import WorldTraining
from kinescribe.storage.audit import check, status
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import read_plan
from kinescribe.storage.run import read_run
from kinescribe.storage.shards import committed_units, read_footer, unit_uri
from kinescribe.storage.writers import writing
from kinescribe.training.batches import TripletBatches, read_triplets
from kinescribe.training.dry_run import dry_run
from kinescribe.training.tasks import make_task
from tests.tiny_vlm import tiny_vlm
from tests.videos import pan, texture, write_video

ROOT = Path(__file__).parents[2]
DRIVER = """
import os, signal, sys
from kinescribe.labeling.ingest import run_ingest
from kinescribe.schemas.config import IngestConfig

def progress(done, total):
    if done >= 4:
        os.kill(os.getpid(), signal.SIGKILL)

source, out, model = sys.argv[1:]
run_ingest(source, out, IngestConfig(dynamics=model, triplets_per_unit=2), 2, progress)
"""


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tiny_vlm().save(folder)
    return str(folder)


def save(folder: Path, name: str, seed: int, width: int = 160, height: int = 120) -> str:
    (folder / "images").mkdir(exist_ok=True)
    Image.fromarray(texture(seed, width, height)).save(folder / "images" / name)
    return f"images/{name}"


def aurora(folder: Path, items: list[dict[str, Any]]) -> str:
    (folder / "test.json").write_text(json.dumps(items))
    return str(folder / "test.json")


def edits(folder: Path, num: int = 10) -> str:
    """A chain of edits: each item's output is the next one's input."""
    names = [save(folder, f"{index}.jpg", index) for index in range(num + 1)]
    items = itertools.pairwise(names)
    return aurora(folder, [{"input": s, "output": t, "instruction": f"change {s}"} for s, t in items])


def ingest(input: str, out: Path, model: str, **config: Any):
    return run_ingest(input, str(out), IngestConfig(dynamics=model, **config), decode_workers=1)


def rows(out: Path) -> pa.Table:
    return Dataset.open(str(out)).scan().to_table()


def reasons(out: Path) -> Counter[str]:
    footers = [read_footer(unit_uri(str(out), unit)) for unit in committed_units(str(out))]
    return Counter(str(end.reason) for footer in footers for end in footer.outcomes)


def test_every_item_has_one_outcome_and_its_reason(tmp_path: Path, model_folder: str):
    good, other = save(tmp_path, "a.jpg", 0), save(tmp_path, "b.png", 1, 200, 90)
    whole = (tmp_path / good).read_bytes()
    (tmp_path / "images" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "images" / "page.jpg").write_text("<html>404</html>")
    Image.fromarray(texture(2)).save(tmp_path.parent / "secret.jpg")
    (tmp_path / "images" / "link.jpg").symlink_to(tmp_path.parent / "secret.jpg")
    (tmp_path / "images" / "loop.jpg").symlink_to("loop.jpg")
    endings = [
        ((good, other, "paint it"), "None"),
        ((good, other, "paint it"), "None"),
        ((good, good, "do nothing"), DropReason.STATIC),
        ((good, other, ""), RejectCode.NO_ACTION),
        ((good, "images/cut.jpg", "x"), RejectCode.UNREADABLE),
        (("images/page.jpg", good, "x"), RejectCode.UNREADABLE),
        (("images/nowhere.jpg", good, "x"), RejectCode.MISSING),
        (("images/loop.jpg", good, "x"), RejectCode.MISSING),
        (("images/link.jpg", good, "x"), RejectCode.FORBIDDEN),
        (("../secret.jpg", good, "x"), RejectCode.FORBIDDEN),
        ((good, str(tmp_path.parent / "secret.jpg"), "x"), RejectCode.FORBIDDEN),
    ]
    items = [{"input": s, "output": t, "instruction": words, "task": "mb"} for (s, t, words), _ in endings]
    result = ingest(aurora(tmp_path, items), tmp_path / "out", model_folder, triplets_per_unit=4)
    assert reasons(tmp_path / "out") == Counter(str(ending) for _, ending in endings)
    assert (result.clips, result.kept, result.dropped, result.rejected, result.pending) == (11, 2, 1, 8, 0)
    assert check(str(tmp_path / "out")).problems == []
    assert status(str(tmp_path / "out")) == result


def test_a_row_has_the_action_as_given_and_the_codes_of_its_stored_images(tmp_path: Path, model_folder: str):
    items = [{"input": save(tmp_path, "a.jpg", 0), "output": save(tmp_path, "b.jpg", 1, 99, 70)}]
    items[0] |= {"instruction": "Open the\n door.", "task": "ag"}
    ingest(aurora(tmp_path, items), tmp_path / "out", model_folder)
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    row = loaded[0]
    assert (row["action"], row["action_class"]) == ("Open the door.", "ag")
    assert [row[name] for name in ("action_logprob", "action_tokens", "finish_reason")] == [None] * 3
    assert [row[name] for name in ("source_time_s", "target_time_s")] == [None] * 2
    assert row["source"].size == row["target"].size == (160, 120)
    codec = ImageCodec.load(Path(model_folder) / "codec")
    codes_2L, features_2LC = codec.encode(codec.preprocess([row["source"], row["target"]]))
    assert [row["source_codes"], row["target_codes"]] == codes_2L.tolist()
    weights_L = codec.importance(features_2LC[:1], features_2LC[1:])[0]
    np.testing.assert_allclose(row["importance"], weights_L, rtol=2e-3)


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_codes_are_of_whole_pictures_where_asked_and_so_a_trained_model_sees_them(
    fit: Fit, tmp_path: Path, model_folder: str
):
    ingest(edits(tmp_path, 2), tmp_path / "out", model_folder, image={"fit": fit})
    opened = Dataset.open(str(tmp_path / "out"))
    codec = ImageCodec.load(Path(model_folder) / "codec")
    codec.fit = fit
    assert opened.codec_id == codec.id
    for row in opened.scan().to_table().to_pylist():
        pictures = [Image.open(io.BytesIO(row[name]["bytes"])) for name in ("source", "target")]
        codes_2L = codec.encode(codec.preprocess(pictures)).codes_BL
        assert [row["source_codes"], row["target_codes"]] == codes_2L.tolist()
    write_report(str(tmp_path / "out"), str(tmp_path / "report.html"))
    assert f'<div class="fit-{fit}">' in (tmp_path / "report.html").read_text()
    config = WorldTraining(data=(str(opened),), out=str(tmp_path / "world"), init=model_folder, steps=1)
    make_task(config).export(tmp_path / "export")
    assert TokenVLM.load(tmp_path / "export").codec_id == codec.id
    assert TokenVLM.load(tmp_path / "export").codec.fit == fit
    assert dry_run(config).samples == len(opened.scan().to_table())


def test_segments_of_videos_come_in_with_their_narration(tmp_path: Path, model_folder: str):
    write_video(tmp_path / "clip.mp4", pan(90))
    (tmp_path / "torn.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes()[:3000])
    (tmp_path / "segments.csv").write_text(
        'uri,start_s,end_s,narration\nclip.mp4,0.99,2.01,"pan, then\nstop"\nclip.mp4,,,pan\n'
        "clip.mp4,0,1,\nclip.mp4,8,9,late\ntorn.mp4,0,1,x\n../clip.mp4,0,1,x\n"
    )
    ingest(str(tmp_path / "segments.csv"), tmp_path / "out", model_folder)
    first, second = rows(tmp_path / "out").to_pylist()
    assert (first["action"], first["source_time_s"], first["target_time_s"]) == ("pan, then stop", 1.0, 2.0)
    assert (second["action"], second["source_time_s"]) == ("pan", 0.0)
    assert first["video"] == str(tmp_path / "clip.mp4")
    expected = ("None", "None", "no_action", "too_short", "unreadable", "forbidden")
    assert reasons(tmp_path / "out") == Counter(expected)
    assert check(str(tmp_path / "out")).problems == []


def test_training_takes_the_rows_as_supervised(tmp_path: Path, model_folder: str):
    ingest(edits(tmp_path), tmp_path / "out", model_folder)
    triplets = read_triplets([str(tmp_path / "out")])
    assert len(triplets) == 10
    assert triplets.given_N.all()
    vlm = tiny_vlm()
    batch = TripletBatches(triplets, vlm, "world", floor=0.1).batch(range(4), range(4))
    # Sixteen image tokens of each target, with weights of mean 1.
    assert batch.total_weight == pytest.approx(4 * 16, rel=1e-3)


def test_the_report_shows_given_triplets(tmp_path: Path, model_folder: str):
    ingest(edits(tmp_path, 3), tmp_path / "out", model_folder)
    write_report(str(tmp_path / "out"), str(tmp_path / "report.html"))
    assert "change images/0.jpg" in (tmp_path / "report.html").read_text()


def test_a_run_that_is_killed_and_resumed_gives_the_same_rows(tmp_path: Path, model_folder: str):
    input = edits(tmp_path)
    ingest(input, tmp_path / "whole", model_folder, triplets_per_unit=2)
    command = [sys.executable, "-c", DRIVER, input, str(tmp_path / "out"), model_folder]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    begun = committed_units(str(tmp_path / "out"))
    assert 0 < len(begun) < 5
    told: list[tuple[int, int]] = []
    config = IngestConfig(dynamics=model_folder, triplets_per_unit=2)
    result = run_ingest(input, str(tmp_path / "out"), config, 1, lambda *now: told.append(now))
    assert told[0] == (2 * len(begun), 10)
    assert told[-1] == (10, 10)
    assert result.kept == 10
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")
    assert check(str(tmp_path / "out")).problems == []


def test_a_run_that_is_done_needs_its_files_no_more(tmp_path: Path, model_folder: str):
    input = edits(tmp_path, 2)
    first = ingest(input, tmp_path / "out", model_folder)
    for image in (tmp_path / "images").iterdir():
        image.unlink()
    assert ingest(input, tmp_path / "out", model_folder) == first


def test_a_second_ingest_is_refused_while_another_run_writes_unless_it_joins(
    tmp_path: Path, model_folder: str
):
    source, out = edits(tmp_path, 2), str(tmp_path / "out")
    with writing(out):
        with pytest.raises(DatasetError, match="is being written by process"):
            ingest(source, tmp_path / "out", model_folder)
        config = IngestConfig(dynamics=model_folder)
        assert run_ingest(source, out, config, decode_workers=1, join=True).kept == 2


def test_another_action_is_another_run(tmp_path: Path, model_folder: str):
    input = edits(tmp_path, 2)
    ingest(input, tmp_path / "out", model_folder)
    Path(input).write_text(Path(input).read_text().replace("change", "paint"))
    with pytest.raises(DatasetError, match="belongs to another run"):
        ingest(input, tmp_path / "out", model_folder)


def test_the_identity_has_all_that_the_rows_depend_on(tmp_path: Path, model_folder: str):
    ingest(edits(tmp_path, 2), tmp_path / "out", model_folder)
    identity = read_run(str(tmp_path / "out"))["identity"]
    assert not [key for key in identity if "window" in key or "keyframes" in key or "annotation" in key]
    assert not [key for key in identity if key.startswith("models.")]
    assert [len(unit.clips) for unit in read_plan(str(tmp_path / "out"))] == [2]


def test_too_many_rejects_end_the_run_with_the_reasons(tmp_path: Path, model_folder: str):
    items = [{"input": f"{i}.jpg", "output": f"{i}.png", "instruction": "x"} for i in range(30)]
    with pytest.raises(InputError, match=r"20 of 20 clips were rejected, .* max_reject_rate 0.5") as error:
        ingest(aurora(tmp_path, items), tmp_path / "out", model_folder, triplets_per_unit=5)
    assert "missing               20" in str(error.value)


def test_an_invalid_run_is_refused_before_anything_is_written(tmp_path: Path, model_folder: str):
    with pytest.raises(ModelError, match="no model 'absent'"):
        ingest(edits(tmp_path, 2), tmp_path / "out", "absent")
    with pytest.raises(InputError, match="cannot be read"):
        ingest(str(tmp_path / "absent.json"), tmp_path / "out", model_folder)
    assert not (tmp_path / "out").exists()


def test_files_outside_are_read_if_their_root_is_allowed(tmp_path: Path, model_folder: str):
    (tmp_path / "lists").mkdir()
    name = save(tmp_path, "a.png", 0)
    edit = {"input": f"../{name}", "output": f"{tmp_path}/{save(tmp_path, 'b.png', 1)}", "instruction": "x"}
    input = aurora(tmp_path / "lists", [edit])
    assert ingest(input, tmp_path / "without", model_folder).reasons == {"forbidden": 1}
    given = [
        "ingest",
        input,
        "--out",
        str(tmp_path / "with"),
        "--dynamics",
        model_folder,
        "--root",
        str(tmp_path),
    ]
    assert subprocess.run([sys.executable, "-m", "kinescribe", *given], cwd=ROOT, timeout=800).returncode == 0
    assert status(str(tmp_path / "with")).kept == 1
    assert "roots" not in (tmp_path / "with" / "run.json").read_text()
