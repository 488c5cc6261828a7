from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from kinescribe.schemas.errors import ConfigError, InputError
from kinescribe.simulation.actions import parse
from kinescribe.simulation.clips import Segment, read_truth, write_clips
from kinescribe.simulation.transitions import CLASSES


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_clips(folder, len(CLASSES), "test", seed=3, side=64)
    return folder


def test_every_class_has_its_folder_of_h264(world: Path):
    assert {path.name for path in (world / "clips").iterdir()} == set(CLASSES)
    for path in (world / "clips").rglob("*.mp4"):
        with av.open(path) as container:
            assert container.streams.video[0].codec_context.name == "h264"


def test_the_truth_lies_outside_the_clips(world: Path):
    assert [
        path.name for path in (world / "clips").rglob("*") if path.is_file() and path.suffix != ".mp4"
    ] == []
    assert set(read_truth(world)) == {
        path.relative_to(world / "clips").as_posix() for path in (world / "clips").rglob("*.mp4")
    }


def test_segments_follow_each_other_within_the_clip(world: Path):
    for video, truth in read_truth(world).items():
        with av.open(world / "clips" / video) as container:
            duration_s = float(container.duration / av.time_base)
        times = [time for segment in truth.segments for time in (segment.start_s, segment.end_s)]
        assert times == sorted(times)
        assert times[-1] <= duration_s + 0.05
        assert all(parse(segment.action) for segment in truth.segments)


@pytest.mark.parametrize("harm", [lambda text: text[:-9], lambda text: "{}\n", lambda text: "[1]\n"])
def test_a_damaged_truth_is_refused(world: Path, tmp_path: Path, harm: Callable[[str], str]):
    (tmp_path / "truth.jsonl").write_text(harm((world / "truth.jsonl").read_text()))
    with pytest.raises(InputError, match=r"truth.jsonl is damaged .*; run `simulate clips` again"):
        read_truth(tmp_path)


def test_the_same_seed_writes_the_same_bytes(world: Path, tmp_path: Path):
    write_clips(tmp_path, 2, "test", seed=3, side=64)
    for path in (tmp_path / "clips").rglob("*.mp4"):
        assert path.read_bytes() == (world / "clips" / path.relative_to(tmp_path / "clips")).read_bytes()


def test_files_of_something_else_are_neither_lost_nor_mixed_in(tmp_path: Path):
    truth = tmp_path / "truth.jsonl"
    truth.write_text("precious\n")
    with pytest.raises(
        ConfigError, match=r"contains a truth.jsonl of something else; choose an empty folder"
    ):
        write_clips(tmp_path, 1, "test", seed=3, side=64)
    assert truth.read_text() == "precious\n"
    assert list(tmp_path.iterdir()) == [truth]


def test_another_run_is_refused_and_the_same_one_repeated(tmp_path: Path):
    truths = write_clips(tmp_path, 2, "test", seed=3, side=64)
    (tmp_path / "dataset").mkdir()
    for num_clips, seed in ((1, 3), (3, 3), (2, 4)):
        with pytest.raises(ConfigError, match="choose an empty folder"):
            write_clips(tmp_path, num_clips, "test", seed, side=64)
    (tmp_path / "truth.jsonl").unlink()  # as after a kill
    assert write_clips(tmp_path, 2, "test", seed=3, side=64) == truths
    assert list(read_truth(tmp_path).values()) == truths
    (tmp_path / "clips" / "mine.mp4").write_text("precious")
    with pytest.raises(ConfigError, match=r"clips contains mine.mp4, which is not of this run"):
        write_clips(tmp_path, 2, "test", seed=3, side=64)


def test_a_folder_that_cannot_be_made_is_refused_in_words(tmp_path: Path):
    (tmp_path / "clips").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written: .*; choose another folder"):
        write_clips(tmp_path, 1, "test", seed=3, side=64)


def test_train_and_test_clips_differ(world: Path, tmp_path: Path):
    write_clips(tmp_path, 1, "train", seed=3, side=64)
    (train,) = (tmp_path / "clips" / "move").iterdir()
    (test,) = (world / "clips" / "move").iterdir()
    assert first_frame(train).shape == first_frame(test).shape
    assert np.abs(first_frame(train).astype(int) - first_frame(test)).mean() > 5


def first_frame(path: Path) -> np.ndarray:
    with av.open(path) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_progress_runs_from_nothing_to_all():
    gradual = Segment(1.0, 2.0, "pan left", sudden=False)
    assert [gradual.progress(time) for time in (0.5, 1.0, 2.0, 3.0)] == [0, 0, 1, 1]
    assert 0 < gradual.progress(1.5) < 0.5
    assert [Segment(1.0, 2.0, "add a red ball", sudden=True).progress(time) for time in (1.9, 2.0)] == [0, 1]
