"""Datasets of videos that are made here, compared with these by the real second decoder in its sandbox."""

import os
from pathlib import Path

import boto3
import pytest

from kinescribe.labeling.extract import Rejected
from kinescribe.labeling.frame_check import FrameComparer, check_frames, common_folder, not_below
from kinescribe.schemas.frame_check import FrameCheck
from kinescribe.storage.audit import check
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.row_sample import RowSample
from tests.filmed_dataset import Rows, clip_of, film
from tests.tiny_dataset import build, image
from tests.videos import pan, write_video


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder with three videos of three pairs each."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for seed in range(3):
        write_video(folder / f"{seed}.mp4", pan(90, seed=seed))
    return folder


def uris(videos: Path) -> list[str]:
    return sorted(str(path) for path in videos.iterdir())


def compare(dataset: str, root: Path | str, num: int = 100, seed: int = 0) -> FrameCheck:
    sample = RowSample(num, seed)
    assert check(dataset, sample).ok
    return check_frames(Dataset.open(dataset), sample, [str(root)])


def shifted(rows: Rows, num_frames: int) -> None:
    for row in rows:
        row["source_time_s"] += num_frames / 30
        row["target_time_s"] += num_frames / 30


def test_the_frames_of_a_right_dataset_are_right(tmp_path: Path, videos: Path):
    dataset = film(tmp_path / "dataset", [clip_of(uri) for uri in uris(videos)])
    found = compare(dataset, videos)
    assert found.rows >= 9
    assert (found.right, found.differ, found.not_comparable) == (found.rows, 0, {})
    assert found.problems() == []


@pytest.mark.parametrize("num_frames", [-3, -1, 2, 5])
def test_shifted_frames_differ_and_it_is_said_which_they_are(tmp_path: Path, videos: Path, num_frames: int):
    dataset = film(tmp_path / "dataset", [clip_of(uris(videos)[0])], lambda rows: shifted(rows, num_frames))
    found = compare(dataset, videos)
    assert found.differ == found.rows >= 3
    for frame in found.differing:
        right_s = frame.time_s - num_frames / 30
        is_within = 0 <= frame.time_s < 3
        assert frame.seen.startswith(
            f"the frame at {right_s:.3f} s" if is_within else "a time without a frame"
        )


def test_swapped_frames_differ(tmp_path: Path, videos: Path):
    def swap(rows: Rows) -> None:
        rows[1]["source"], rows[1]["target"] = rows[1]["target"], rows[1]["source"]

    dataset = film(tmp_path / "dataset", [clip_of(uris(videos)[0])], swap)
    found = compare(dataset, videos)
    assert (found.differ, found.right) == (1, found.rows - 1)
    source, target = found.differing
    assert (source.frame, target.frame) == ("source", "target")
    assert source.seen == f"the frame at {target.time_s:.3f} s"


def test_a_row_with_another_image_differs_alone(tmp_path: Path, videos: Path):
    changed: list[str] = []

    def tamper(rows: Rows) -> None:
        rows[2]["target"] = image("red")
        changed.append(rows[2]["triplet_id"])

    dataset = film(tmp_path / "dataset", [clip_of(uris(videos)[0])], tamper)
    found = compare(dataset, videos)
    assert (found.differ, found.right) == (1, found.rows - 1)
    assert [(frame.triplet_id, frame.frame) for frame in found.differing] == [(changed[0], "target")]
    assert found.differing[0].seen == "no frame near its time"
    assert "1 of 3 rows" in found.problems()[0]


def test_windows_of_a_video_are_compared_where_they_are(tmp_path: Path):
    path = write_video(tmp_path / "long.mp4", pan(200), options={"g": "30"})
    windows = [clip_of(str(path), start_s=0.0, end_s=3.0), clip_of(str(path), start_s=3.0, end_s=6.5)]
    found = compare(film(tmp_path / "dataset", windows), tmp_path)
    assert found.right == found.rows >= 6


def test_a_rotated_video_and_a_transport_stream_are_right(tmp_path: Path):
    turned = write_video(tmp_path / "turned.mp4", pan(60), rotation=90)
    stream = write_video(tmp_path / "stream.ts", pan(120), options={"g": "12"})
    dataset = film(tmp_path / "dataset", [clip_of(str(turned)), clip_of(str(stream))])
    found = compare(dataset, tmp_path)
    # decord loses the first frames of a transport stream.
    assert found.not_comparable.keys() <= {"decord_fails"}
    assert (found.differ, found.right) == (0, found.rows - sum(found.not_comparable.values()))
    assert found.right >= 4


def test_a_video_that_is_gone_or_has_changed_is_not_comparable(tmp_path: Path, videos: Path):
    dataset = film(tmp_path / "dataset", [clip_of(uri) for uri in uris(videos)])
    gone, changed, _ = map(Path, uris(videos))
    gone.rename(tmp_path / "elsewhere.mp4")
    write_video(changed, pan(45, seed=7))
    found = compare(dataset, videos)
    assert found.differ == 0
    assert set(found.not_comparable) == {"missing", "changed"}
    assert found.right == found.rows - sum(found.not_comparable.values()) > 0


def test_still_images_and_times_that_are_no_numbers_are_not_comparable(tmp_path: Path, videos: Path):
    def change(rows: Rows) -> None:
        rows[0] |= {"source_time_s": None, "target_time_s": None}
        rows[1] |= {"target_time_s": float("nan")}

    dataset = film(tmp_path / "dataset", [clip_of(uris(videos)[0])], change)
    found = compare(dataset, videos)
    assert (found.not_comparable, found.right) == ({"no_time": 2}, found.rows - 2)


def test_a_video_outside_the_named_folders_is_not_opened(tmp_path: Path, videos: Path):
    pipe = tmp_path / "private"
    os.mkfifo(pipe)  # opening it would wait for ever, and asking for its size finds another than the plan has

    def name_the_pipe(rows: Rows) -> None:
        rows[0]["video"] = str(pipe)
        rows[1]["video"] = "s3://bucket-of-a-stranger/clip.mp4"
        rows[2]["video"] = str(videos / ".." / "private")

    dataset = film(tmp_path / "dataset", [clip_of(uris(videos)[0])], name_the_pipe)
    found = compare(dataset, videos)
    assert found.not_comparable == {"forbidden": 3}


def test_a_link_out_of_the_named_folder_is_not_followed(tmp_path: Path, videos: Path):
    private = write_video(tmp_path / "private.mp4", pan(90))
    (videos / "link.mp4").symlink_to(private)
    comparer = FrameComparer([str(videos)])
    with pytest.raises(Rejected, match="forbidden"):
        comparer.compare(str(videos / "link.mp4"), [])
    comparer.close()


def test_by_default_videos_below_the_working_folder_are_read(
    tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
):
    dataset = film(tmp_path / "dataset", [clip_of(uris(videos)[0])])
    sample = RowSample(1, 0)
    check(dataset, sample)
    monkeypatch.chdir(tmp_path)
    assert check_frames(Dataset.open(dataset), sample).right == 1
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    found = check_frames(Dataset.open(dataset), sample)
    assert (found.not_comparable, found.not_read) == ({"forbidden": 1}, str(videos))
    assert f"add --root {videos}" in found.problems()[0]


def test_a_video_in_a_store_is_compared_if_its_folder_is_named(tmp_path: Path, videos: Path, bucket: str):
    uri = f"{bucket}/clips/0.mp4"
    boto3.client("s3").upload_file(uris(videos)[0], bucket.removeprefix("s3://"), "clips/0.mp4")
    dataset = film(tmp_path / "dataset", [clip_of(uri)])
    found = compare(dataset, f"{bucket}/clips", num=2)
    assert found.right == found.rows == 2
    assert compare(dataset, tmp_path, num=2).not_comparable == {"forbidden": 2}


def test_a_seed_draws_the_same_rows_again(tmp_path: Path, videos: Path):
    dataset = film(
        tmp_path / "dataset", [clip_of(uri) for uri in uris(videos)], lambda rows: shifted(rows, 3)
    )
    drawn = [
        {frame.triplet_id for frame in compare(dataset, videos, 4, seed).differing} for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_progress_counts_every_row(tmp_path: Path, videos: Path):
    dataset = film(tmp_path / "dataset", [clip_of(uri) for uri in uris(videos)])
    sample, calls = RowSample(5, 0), list[tuple[int, int]]()
    check(dataset, sample)
    check_frames(
        Dataset.open(dataset), sample, [str(videos)], lambda done, total: calls.append((done, total))
    )
    assert calls == [(done, 5) for done in range(1, 6)]


def test_an_answer_that_is_no_reply_ends_as_a_reason(tmp_path: Path, videos: Path):
    liar = "from kinescribe.media.sandbox import serve; serve(lambda request: b'{\"pairs\": []}')"
    comparer = FrameComparer([str(videos)], ("python", "-c", liar))
    dataset = film(tmp_path / "dataset", [clip_of(uris(videos)[0])])
    rows = Dataset.open(dataset).scan().to_table().to_pylist()
    with pytest.raises(Rejected, match="crashed"):
        comparer.compare(uris(videos)[0], rows)
    comparer.close()


def test_a_dataset_without_rows_has_nothing_to_compare(tmp_path: Path):
    build(str(tmp_path), [])
    assert compare(str(tmp_path), tmp_path).rows == 0


@pytest.mark.parametrize(
    ("uri", "roots", "is_read"),
    [
        ("/clips/a.mp4", ["/clips"], True),
        ("/clips2/a.mp4", ["/clips"], False),
        ("/clips/../a.mp4", ["/clips"], False),
        ("/b/a.mp4", ["/clips", "/b"], True),
        ("s3://bucket/clips/a.mp4", ["s3://bucket/clips"], True),
        ("s3://bucket/other/a.mp4", ["s3://bucket/clips"], False),
        ("s3://bucket/clips/../a.mp4", ["s3://bucket/clips"], False),
        ("s3://bucket/a.mp4", ["/"], False),
        ("http://host/a.mp4", ["http://host"], False),
    ],
)
def test_only_what_is_below_a_root_is_read(uri: str, roots: list[str], is_read: bool):
    assert (not_below(uri, roots) is None) == is_read


def test_the_folder_to_name_is_what_all_videos_are_below():
    assert common_folder([]) is None
    assert common_folder(["/data/clips/a/1.mp4", "/data/clips/b/2.mp4"]) == "/data/clips"
    assert common_folder(["/data/clips/a/1.mp4"]) == "/data/clips/a"
    assert common_folder(["/a/1.mp4", "s3://b/2.mp4"]) == "/a"
