import io
import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest
import ray
from PIL import Image

from kinescribe.cluster.label import run_label
from kinescribe.cluster.pipeline import NO_MEMORY, Sessions
from kinescribe.cluster.progress import RESUME, LabelProgress
from kinescribe.cluster.ray_session import DEFAULTS
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.errors import ConfigError, DatasetError, InputError, ModelError
from kinescribe.schemas.outcomes import DropReason, RejectCode, Status
from kinescribe.storage.audit import check
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.shards import committed_units, read_footer, unit_uri
from kinescribe.storage.writers import writing
from tests.drivers import FULL_STORE, NODES, SLOW_MODEL, TOKEN
from tests.fake_clips import FakeExtractor, MendedExtractor, StillbornExtractor
from tests.fault_proxy import error, lose_reply, reset, reset_in_body, truncate_body
from tests.rows import assert_alike, rows
from tests.videos import HEIGHT, WIDTH, pan, still, write_video

ROOT = Path(__file__).parents[2]
FAKES = Sessions(make_extractor=FakeExtractor)


class RecordedProgress(LabelProgress):
    def __init__(self) -> None:
        super().__init__()
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def never(*arguments):
    raise AssertionError(f"nothing was left to do, but {arguments} were asked for")


def label(source, out, config, progress=None, sessions=FAKES, **options):
    return run_label(source, out, config, Resources(label_workers=1), progress, sessions, **options)


def digests(dataset):
    footers = [read_footer(unit_uri(dataset, unit)) for unit in committed_units(dataset)]
    return {footer.unit_id: footer.digest for footer in footers}


def objects(dataset):
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in Path(dataset, "data").iterdir()}


def outcomes(dataset):
    """Outcomes by the name of the clip's file."""
    from kinescribe.storage.plan import read_plan

    names = {clip.clip_id: Path(clip.uri).stem for unit in read_plan(dataset) for clip in unit.clips}
    footers = [read_footer(unit_uri(dataset, unit)) for unit in committed_units(dataset)]
    return {names[end.clip_id]: end for footer in footers for end in footer.outcomes}


@pytest.mark.ray
@pytest.mark.slow
def test_each_clip_has_its_outcome_and_harms_no_other(ray_here, clips_folder, model_folder, tmp_path):
    names = ("bad1", "good1", "good2", "poison1", "good3", "torn1", "good4")
    out, progress = str(tmp_path / "out"), RecordedProgress()
    config = LabelConfig(dynamics=model_folder, clips_per_unit=4)
    status = label(clips_folder(*names), out, config, progress)

    ends = outcomes(out)
    assert {name: end.status for name, end in ends.items()} == {
        name: Status.KEPT if name.startswith("good") else Status.REJECTED for name in names
    }
    assert ends["bad1"].reason is RejectCode.UNREADABLE
    assert ends["poison1"].reason is RejectCode.CRASHED
    assert ends["torn1"].reason is RejectCode.MODEL_FAILED
    assert (status.clips, status.kept, status.rejected, status.pending) == (7, 4, 3, 0)
    assert check(out).problems == []

    reason, loading, labelling = progress.notes
    assert "decoders: 1" in reason
    assert loading == "1 decoder and 1 model are loading"
    assert labelling == "labelling"
    assert (progress.total, progress.done) == (7, 0)
    assert (progress.sum.clips, progress.sum.triplets) == (7, status.triplets)
    assert (Path(out) / "README.md").is_file()

    again = label(str(tmp_path / "clips"), out, config, sessions=Sessions(FakeExtractor, never))
    assert again == status


@pytest.mark.ray
def test_real_videos_become_a_dataset(ray_here, model_folder, tmp_path):
    videos, out = tmp_path / "pan left", str(tmp_path / "out")
    videos.mkdir()
    write_video(videos / "moving.mp4", pan(50))
    write_video(videos / "still.mp4", still(50))
    (videos / "broken.mp4").write_bytes(b"no video")
    (videos / "outside.mp4").symlink_to("/etc/hostname")
    config = LabelConfig(dynamics=model_folder)
    label(str(tmp_path), out, config, sessions=Sessions())

    ends = outcomes(out)
    assert {name: end.reason for name, end in ends.items()} == {
        "moving": None,
        "still": DropReason.STATIC,
        "broken": RejectCode.UNREADABLE,
        "outside": RejectCode.FORBIDDEN,
    }
    rows = Dataset.open(out).scan().to_table().to_pylist()
    assert len(rows) == ends["moving"].num_triplets > 0
    for row in rows:
        assert row["action_class"] == "pan left"
        assert 0 <= row["source_time_s"] < row["target_time_s"]
        assert len(row["importance"]) == len(row["source_codes"]) == 16
        assert Image.open(io.BytesIO(row["target"]["bytes"])).size == (WIDTH, HEIGHT)
    assert check(out).problems == []


@pytest.mark.ray
@pytest.mark.slow
def test_relative_paths_start_at_the_drivers_folder(
    ray_here, clips_folder, model_folder, tmp_path, monkeypatch
):
    clips_folder("good1")
    monkeypatch.chdir(tmp_path)
    status = label("clips", "out", LabelConfig(dynamics=os.path.relpath(model_folder)))
    assert (status.kept, status.pending) == (1, 0)


@pytest.mark.ray
@pytest.mark.slow
def test_too_many_rejects_end_the_run_with_the_reasons(ray_here, clips_folder, model_folder, tmp_path):
    source = clips_folder(*(f"bad{index}" for index in range(40)))
    out = str(tmp_path / "out")
    config = LabelConfig(dynamics=model_folder, clips_per_unit=5)
    with pytest.raises(InputError, match=r"20 of 20 clips were rejected, .* max_reject_rate 0.5") as error:
        label(source, out, config)
    assert "unreadable            20" in str(error.value)
    assert 4 <= len(committed_units(out)) < 8
    assert label(source, out, config.model_copy(update={"max_reject_rate": 1.0})).rejected == 40


@pytest.mark.ray
@pytest.mark.slow
def test_a_retry_tries_only_what_was_rejected(ray_here, clips_folder, model_folder, tmp_path):
    source, out = clips_folder("bad1", "good1", "good2", "bad2", "good3"), str(tmp_path / "out")
    config = LabelConfig(dynamics=model_folder, clips_per_unit=2)
    label(source, out, config)
    first = objects(out)
    assert label(source, out, config, retry_rejected=True).rejected == 2
    assert len(committed_units(out)) == len(first) + 1
    mended = Sessions(MendedExtractor)
    status = label(source, out, config, sessions=mended, retry_rejected=True)
    assert (status.clips, status.kept, status.rejected, status.pending) == (5, 5, 0, 0)
    assert objects(out).items() >= first.items()
    assert check(out).problems == []
    label(source, str(tmp_path / "never bad"), config, sessions=mended)
    assert rows(out) == rows(str(tmp_path / "never bad"))
    nothing = Sessions(FakeExtractor, never)
    assert label(source, out, config, sessions=nothing, retry_rejected=True) == status


def test_a_wrong_model_or_input_is_refused_before_ray_starts(clips_folder, model_folder, tmp_path):
    source, out = clips_folder("good"), str(tmp_path / "out")
    with pytest.raises(ModelError, match="no model 'absent'"):
        label(source, out, LabelConfig(dynamics="absent"))
    with pytest.raises(InputError, match="nowhere does not exist"):
        label(str(tmp_path / "nowhere"), out, LabelConfig(dynamics=model_folder))
    assert not Path(out).exists()


def test_a_second_run_is_refused_before_ray_starts_while_another_writes(clips_folder, model_folder, tmp_path):
    source, out = clips_folder("good"), str(tmp_path / "out")
    with writing(out), pytest.raises(DatasetError, match="is being written by process"):
        label(source, out, LabelConfig(dynamics=model_folder))
    assert not Path(out, "plan").exists()


@pytest.fixture(scope="module")
def undisturbed(ray_here, model_folder, tmp_path_factory):
    """The clips of the runs that are cut off, and the digests of one that was not."""
    folder = tmp_path_factory.mktemp("undisturbed")
    source = folder / "clips"
    source.mkdir()
    for index in range(24):
        (source / f"slow{index:02}.mp4").write_bytes(b"x")
    config = LabelConfig(dynamics=model_folder, clips_per_unit=2)
    label(str(source), str(folder / "out"), config)
    return str(source), config, digests(str(folder / "out"))


def wait_for_units(driver, out, log, count):
    while len(committed_units(out)) < count:
        assert driver.poll() is None, log.read_text()
        time.sleep(0.05)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long  # CI kills more in `make chaos`
def test_a_run_whose_driver_was_killed_resumes_with_the_same_rows(undisturbed, start_driver, end_driver):
    source, config, expected = undisturbed
    driver, out, log = start_driver(source, config.dynamics, program=SLOW_MODEL)
    wait_for_units(driver, out, log, 2)
    end_driver(driver, signal.SIGKILL)

    before = committed_units(out)
    assert 0 < len(before) < len(expected)
    progress = RecordedProgress()
    label(source, out, config, progress)
    assert digests(out) == expected
    assert (progress.total, progress.done) == (24, 2 * len(before))
    assert progress.sum.clips == 24 - 2 * len(before)
    assert check(out).problems == []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 1, marks=pytest.mark.long), (signal.SIGTERM, 143)]
)
def test_a_run_that_is_stopped_says_how_to_resume(number, code, undisturbed, start_driver, end_driver):
    source, config, expected = undisturbed
    driver, out, log = start_driver(source, config.dynamics, program=SLOW_MODEL)
    wait_for_units(driver, out, log, 1)
    end_driver(driver, number)
    assert driver.returncode == code
    assert RESUME in log.read_text()
    assert not Path(out, "writers").exists()
    assert "SIGTERM received" not in log.read_text()
    assert digests(out).items() <= expected.items()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_a_driver_that_dies_leaves_its_cluster_to_the_next(undisturbed, start_driver, end_driver):
    source, config, expected = undisturbed
    address = ray.get_runtime_context().gcs_address
    cluster = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "token"}
    driver, out, log = start_driver(source, config.dynamics, program=SLOW_MODEL, **cluster)
    wait_for_units(driver, out, log, 1)
    driver.kill()
    driver.wait()
    assert 0 < len(committed_units(out)) < len(expected)
    label(source, out, config)
    assert digests(out) == expected
    assert check(out).problems == []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_a_cluster_that_loses_two_of_three_nodes_gives_the_same_rows(undisturbed, start_driver):
    source, config, expected = undisturbed
    driver, out, log = start_driver(source, config.dynamics, program=NODES, **DEFAULTS, **TOKEN)
    assert driver.wait(timeout=800) == 0, log.read_text()
    (lost,), (drained,) = (
        re.findall(rf"^{how} (\d+)$", log.read_text(), re.M) for how in ("lost", "drained")
    )
    assert 2 <= int(lost) < int(drained) < len(expected)
    assert committed_units(out) == expected.keys()
    assert_alike(out, str(Path(source).parent / "out"))
    assert check(out).problems == []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_a_full_object_store_ends_the_run_with_a_remedy_and_the_run_resumes(undisturbed, start_driver):
    source, config, expected = undisturbed
    full = {"RAY_local_fs_capacity_threshold": "0.001", **DEFAULTS, **TOKEN}
    driver, out, log = start_driver(source, config.dynamics, program=FULL_STORE, **full)
    assert driver.wait(timeout=800) == 1
    assert "StoreError: Ray's object store and the disk that it spills to are full; free" in log.read_text()
    assert committed_units(out) == set()
    label(source, out, config)
    assert digests(out) == expected
    assert check(out).problems == []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_lack_of_memory_ends_the_run_with_a_remedy_and_the_run_resumes(undisturbed, start_driver):
    source, config, expected = undisturbed
    short = {"RAY_memory_usage_threshold": "0.01", "RAY_task_oom_retries": "1"}
    driver, out, log = start_driver(source, config.dynamics, **short)
    assert driver.wait(timeout=800) == 1
    assert f"ConfigError: {NO_MEMORY}" in log.read_text()
    label(source, out, config)
    assert digests(out) == expected
    assert check(out).problems == []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_workers_that_die_before_they_begin_end_the_run(ray_here, clips_folder, model_folder, tmp_path):
    source, out, config = clips_folder("good"), str(tmp_path / "out"), LabelConfig(dynamics=model_folder)
    with pytest.raises(ConfigError, match="killed again and again before they began any work"):
        label(source, out, config, sessions=Sessions(make_extractor=StillbornExtractor))
    assert label(source, out, config).kept == 1


@pytest.mark.ray
@pytest.mark.slow
def test_two_drivers_at_once_make_one_dataset(undisturbed, start_driver):
    source, config, expected = undisturbed
    first, out, log = start_driver(source, config.dynamics)
    wait_for_units(first, out, log, 1)
    before = objects(out)
    second, _, other_log = start_driver(source, config.dynamics)
    assert first.wait(timeout=600) == 0, log.read_text()
    assert second.wait(timeout=600) == 0, other_log.read_text()
    assert digests(out) == expected
    assert objects(out).items() >= before.items()
    assert check(out).problems == []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_a_suspended_run_that_wakes_up_after_another_finished_changes_nothing(
    undisturbed, start_driver, end_driver
):
    source, config, expected = undisturbed
    zombie, out, log = start_driver(source, config.dynamics)
    wait_for_units(zombie, out, log, 1)
    frozen = [psutil.Process(zombie.pid), *psutil.Process(zombie.pid).children(recursive=True)]
    for process in frozen:
        process.suspend()
    assert len(committed_units(out)) < len(expected)
    label(source, out, config, join=True)
    finished = objects(out)
    for process in frozen:
        process.resume()
    zombie.wait(timeout=600)
    assert objects(out) == finished
    assert digests(out) == expected
    assert check(out).problems == []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_a_store_that_fails_now_and_then_gets_the_same_rows(undisturbed, start_driver, bucket, proxy):
    source, config, expected = undisturbed
    faults = [
        error(500, "InternalError"),
        error(503, "SlowDown"),
        reset,
        lose_reply,
        reset_in_body,
        truncate_body,
    ]
    proxy.fail_at_random(faults, share=0.2, seed=7)
    driver, out, log = start_driver(source, config.dynamics, f"{bucket}/dataset")
    assert driver.wait(timeout=800) == 0, log.read_text()
    assert proxy.num_faults > 10
    proxy.fail_at_random(faults, share=0.0, seed=7)
    assert digests(out) == expected
    assert check(out).problems == []
