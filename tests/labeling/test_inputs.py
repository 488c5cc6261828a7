import uuid
from pathlib import Path

import polars as pl
import pytest

from kinescribe.labeling.inputs import (
    OUTSIDE,
    PROBED_BYTES,
    clip_frames,
    forbidden,
    input_root,
    list_clips,
    outside,
)
from kinescribe.schemas.clips import Clip
from kinescribe.schemas.config import Limits
from kinescribe.schemas.errors import InputError, StoreError, UserError
from kinescribe.storage import objects, uri
from kinescribe.storage.clips import StoredClips
from tests.fault_proxy import FaultProxy

LIMITS = Limits()


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(clips: list[Clip], folder: Path | str) -> list[str]:
    return [clip.uri.removeprefix(f"{folder}/") for clip in clips]


def ids(clips: list[Clip]) -> list[str]:
    return [clip.clip_id for clip in clips]


def test_a_folder_gives_its_videos_in_order_with_their_classes(tmp_path: Path):
    videos = ("run/b.mp4", "run/a.MKV", "jump/c.webm", "top.mov", "deep/er/d.avi")
    touch(tmp_path, *videos, "run/notes.txt", "README")
    clips = list_clips(str(tmp_path), LIMITS)
    assert names(clips, tmp_path) == ["deep/er/d.avi", "jump/c.webm", "run/a.MKV", "run/b.mp4", "top.mov"]
    assert [clip.action_class for clip in clips] == [None, "jump", "run", "run", None]
    assert [clip.size_bytes for clip in clips] == [1] * 5


def test_the_folders_of_a_corpus_parts_are_no_classes(tmp_path: Path):
    touch(tmp_path, "train/run/a.mp4", "val/jump/b.mp4", "test/c.mp4", "other/run/d.mp4")
    clips = list_clips(str(tmp_path), LIMITS)
    assert [clip.action_class for clip in clips] == [None, None, "run", "jump"]


def test_a_file_is_taken_whatever_its_name(tmp_path: Path):
    touch(tmp_path, "class/video.bin")
    (clip,) = list_clips(str(tmp_path / "class" / "video.bin"), LIMITS)
    assert clip.uri == str(tmp_path / "class" / "video.bin")
    assert clip.action_class is None


def test_a_name_with_brackets_is_a_file_and_no_glob(tmp_path: Path):
    touch(tmp_path, "clip[1].mp4", "clip1.mp4")
    assert names(list_clips(f"{tmp_path}/clip[1].mp4", LIMITS), tmp_path) == ["clip[1].mp4"]


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path, "videos/a.mp4")
    monkeypatch.chdir(tmp_path)
    for given in ("videos", "./videos/", "videos/*.mp4", "file://videos"):
        (clip,) = list_clips(given, LIMITS)
        assert clip.uri == str(tmp_path / "videos" / "a.mp4")


def test_ids_do_not_depend_on_the_place_of_the_corpus(tmp_path: Path):
    touch(tmp_path / "here", "run/a.mp4", "jump/b.mp4")
    touch(tmp_path / "over" / "there", "run/a.mp4", "jump/b.mp4")
    there = f"memory://{uuid.uuid4().hex}/videos"
    for name in ("run/a.mp4", "jump/b.mp4"):
        objects.create(uri.join(there, name), b"x")
    (tmp_path / "here" / "m.csv").write_text("uri\njump/b.mp4\nrun/a.mp4\n")
    absolute = [f"file://{tmp_path}/here/{name}" for name in ("jump/b.mp4", "run/a.mp4")]
    (tmp_path / "here" / "absolute.csv").write_text("\n".join(["uri", *absolute]))
    expected = ids(list_clips(str(tmp_path / "here"), LIMITS))
    lists = [f"{tmp_path}/here/m.csv", f"{tmp_path}/here/absolute.csv"]
    for given in (f"{tmp_path}/over/there", there, f"{there}/", f"{there}/*/*.mp4", *lists):
        assert ids(list_clips(given, LIMITS)) == expected
    assert len(set(expected)) == 2


def test_a_bucket_is_listed_like_a_folder(bucket: str):
    for name in ("videos/run/a.mp4", "videos/run/b.txt", "videos/c.mp4", "elsewhere/d.mp4"):
        objects.create(uri.join(bucket, name), b"xyz")
    clips = list_clips(f"{bucket}/videos", LIMITS)
    assert names(clips, bucket) == ["videos/c.mp4", "videos/run/a.mp4"]
    assert list_clips(f"{bucket}/videos/", LIMITS) == clips
    assert [(clip.action_class, clip.size_bytes) for clip in clips] == [(None, 3), ("run", 3)]
    assert names(list_clips(f"{bucket}/**/d.mp4", LIMITS), bucket) == ["elsewhere/d.mp4"]
    assert names(list_clips(f"{bucket}/videos/c.mp4", LIMITS), bucket) == ["videos/c.mp4"]
    objects.create(
        f"{bucket}/videos/list.jsonl", b'{"uri": "c.mp4"}\n{"uri": "absent.mp4", "action_class": "x"}\n'
    )
    listed = list_clips(f"{bucket}/videos/list.jsonl", LIMITS, lambda clip: None)
    assert names(listed, bucket) == ["videos/c.mp4", "videos/absent.mp4"]
    assert [clip.size_bytes for clip in listed] == [3, None]


def test_a_manifest_keeps_its_order_classes_windows_and_ids(tmp_path: Path):
    (tmp_path / "m.csv").write_text(
        "uri,action_class,start_s,end_s,id\n"
        "z.mp4,jump,1,2.5,mine\n"
        "sub/a.mp4,,,,\n"
        "/elsewhere/b.mp4,run,,3,\n"
        "s3://bucket/c.mp4,,,,\n"
    )
    clips = list_clips(str(tmp_path / "m.csv"), LIMITS)
    assert [clip.uri for clip in clips] == [
        f"{tmp_path}/z.mp4",
        f"{tmp_path}/sub/a.mp4",
        "/elsewhere/b.mp4",
        "s3://bucket/c.mp4",
    ]
    assert clips[0] == Clip("mine", f"{tmp_path}/z.mp4", "jump", 1.0, 2.5)
    assert (clips[2].action_class, clips[2].start_s, clips[2].end_s) == ("run", None, 3.0)
    assert len(set(ids(clips))) == 4


def test_a_manifest_is_known_by_its_extension_in_capitals_too(tmp_path: Path):
    (tmp_path / "M.CSV").write_text("uri\nz.mp4\n")
    assert names(list_clips(str(tmp_path / "M.CSV"), LIMITS), tmp_path) == ["z.mp4"]


@pytest.mark.parametrize("given", ["absent", "absent.mp4", "absent.csv", "empty", "empty/*.mp4"])
def test_an_input_without_any_video_is_refused(tmp_path: Path, given: str):
    touch(tmp_path, "empty/notes.txt")
    with pytest.raises(InputError, match=r"does not exist|contains no video"):
        list_clips(str(tmp_path / given), LIMITS)


def test_keys_with_colons_are_read_from_a_bucket_and_chained_urls_are_not(tmp_path: Path, bucket: str):
    keys = ["a::b.mp4", "x/co::lon/c::d::e.mp4", "zip::f.mp4", "::g.mp4"]
    for key in keys:
        objects.create(uri.join(bucket, key), key.encode())
    for given in (bucket, f"{bucket}/**/*.mp4"):
        clips = list_clips(given, LIMITS)
        assert names(clips, bucket) == sorted(keys)
        for clip in clips:
            assert forbidden(clip.uri, input_root(given)) is None
            with objects.local_copy(clip.uri) as path:
                assert path.read_bytes().decode() == clip.uri.removeprefix(f"{bucket}/")
    assert names(list_clips(f"{bucket}/x/co::lon", LIMITS), bucket) == [keys[1]]
    chained = [f"zip://a::{bucket}/a::b.mp4", f"{bucket}/a::memory://b.mp4", f"filecache::{bucket}/a::b.mp4"]
    (tmp_path / "m.csv").write_text("\n".join(["uri", *chained]))
    for clip in list_clips(str(tmp_path / "m.csv"), LIMITS):
        assert "chained URL" in str(forbidden(clip.uri, str(tmp_path)))


def test_a_file_uri_with_percent_codes_is_the_file_that_as_uri_names(tmp_path: Path):
    odd = ["a b.mp4", "100%.mp4", "%20.mp4", "ünï.mp4", "q?#.mp4", "car\rriage.mp4"]
    touch(tmp_path, *odd)
    (tmp_path / "m.csv").write_text("\n".join(["uri", *((tmp_path / name).as_uri() for name in odd)]))
    assert names(list_clips(str(tmp_path / "m.csv"), LIMITS), tmp_path) == odd
    for name in odd:
        (clip,) = list_clips((tmp_path / name).as_uri(), LIMITS)
        assert clip.uri == str(tmp_path / name)
    # A path has no codes, and a name may look like a broken one.
    (tmp_path / "m.csv").write_text(f"uri\na%20b.mp4\nfile://{tmp_path}/100%.mp4\n")
    assert names(list_clips(str(tmp_path / "m.csv"), LIMITS), tmp_path) == ["a%20b.mp4", "100%.mp4"]


def test_percent_codes_lead_no_further_than_what_they_stand_for(tmp_path: Path):
    touch(tmp_path, "secret.mp4")
    folder = tmp_path / "in"
    touch(folder, "a.mp4")
    (folder / "m.csv").write_text(
        f"uri\nfile://{folder}/%2e%2e/secret.mp4\nfile://{folder}%2F..%2F.%2Fsecret.mp4\n"
    )
    for clip in list_clips(str(folder / "m.csv"), LIMITS, lambda clip: None):
        assert forbidden(clip.uri, str(folder)) == OUTSIDE
    (folder / "m.csv").write_text(f"uri\na.mp4\nfile://{folder}/a%00.mp4\n")
    with pytest.raises(InputError, match="line 3: uri must not contain a zero byte"):
        list_clips(str(folder / "m.csv"), LIMITS)


def test_an_empty_manifest_and_an_empty_bucket_are_refused(tmp_path: Path, bucket: str):
    (tmp_path / "m.csv").write_text("uri\n")
    for given, reason in (
        (str(tmp_path / "m.csv"), "contains no video"),
        (bucket, "contains no video"),
        (f"{bucket}-never", "bucket does not exist"),
    ):
        with pytest.raises(UserError, match=reason):
            list_clips(given, LIMITS)


def test_a_password_in_the_input_is_refused_and_not_repeated():
    with pytest.raises(InputError, match="must not contain a password") as refused:
        list_clips("s3://key:hunter2@bucket/videos", LIMITS)
    assert "hunter2" not in str(refused.value)


def test_only_large_files_are_probed_and_long_ones_are_cut(tmp_path: Path):
    touch(tmp_path, "large.mp4", "huge.mp4", "small.mp4")
    for name, more in (("large.mp4", 1), ("huge.mp4", 1), ("small.mp4", 0)):
        with (tmp_path / name).open("ab") as file:
            file.truncate(PROBED_BYTES + more)
    durations = {"large.mp4": 130.0, "huge.mp4": 7 * 3600.0}
    clips = list_clips(str(tmp_path), LIMITS, lambda clip: durations[Path(clip.uri).name])
    assert [(Path(clip.uri).name, clip.start_s, clip.end_s) for clip in clips] == [
        ("huge.mp4", None, None),  # beyond max_duration_s: one reject, not thousands of windows
        ("large.mp4", 0.0, 60.0),
        ("large.mp4", 60.0, 120.0),
        ("large.mp4", 120.0, None),
        ("small.mp4", None, None),
    ]


def test_no_store_is_asked_about_a_clip_that_is_forbidden(tmp_path: Path, proxy: FaultProxy, bucket: str):
    rows = [f"{bucket}/../x.mp4", f"{bucket}/a/../../x.mp4", "s3://other/../x.mp4"]
    (tmp_path / "m.csv").write_text("\n".join(["uri", *rows]))
    proxy.fail("", [])
    assert len(list_clips(str(tmp_path / "m.csv"), LIMITS, lambda clip: None)) == 3
    assert proxy.seen == []


def test_clips_of_a_store_that_cannot_be_reached_stay_and_the_others_get_their_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []

    def size(uri: str) -> int:
        asked.append(uri)
        if uri.startswith(("s3://away/", "s3://here/away")):
            raise StoreError("no answer")
        return 7

    touch(tmp_path, "a.mp4")
    monkeypatch.setattr(objects, "size_bytes", size)
    away = [f"s3://away/{index}.mp4" for index in range(200)]
    mixed = [f"s3://here/{name}.mp4" for name in ("a", *(f"away{index}" for index in range(40)), "b")]
    (tmp_path / "m.csv").write_text("\n".join(["uri", *mixed, "a.mp4", *away]))
    clips = list_clips(str(tmp_path / "m.csv"), LIMITS, lambda clip: None)
    assert [clip.size_bytes for clip in clips] == [7, *[None] * 40, 7, 7, *[None] * 200]
    assert {*mixed} < {*asked}
    assert len([uri for uri in asked if uri in away]) < 100
    (tmp_path / "m.csv").write_text("\n".join(["uri", *away[:2]]))
    with pytest.raises(StoreError, match="no answer"):
        list_clips(str(tmp_path / "m.csv"), LIMITS, lambda clip: None)


def test_only_clips_longer_than_a_window_get_the_sizes_of_their_files(tmp_path: Path):
    touch(tmp_path, "a.mp4")
    times = [",60", "100,160", "100,150", "110,160", ",60.5", "100,160.5"]
    (tmp_path / "m.csv").write_text("\n".join(["uri,start_s,end_s", *(f"a.mp4,{span}" for span in times)]))
    clips = list_clips(str(tmp_path / "m.csv"), LIMITS, lambda clip: None)
    assert [clip.size_bytes for clip in clips] == [*[None] * 4, *[1] * 4]
    assert len(set(ids(clips))) == 8


def test_a_clip_that_is_longer_than_all_its_windows_may_be_is_not_cut(tmp_path: Path):
    most_s = LIMITS.max_duration_s
    (tmp_path / "m.csv").write_text(f"uri,end_s\na.mp4,1e7\nb.mp4,{most_s + 0.5}\nc.mp4,{most_s}\n")
    cut = ["c.mp4"] * round(most_s / LIMITS.window_s)
    assert names(list_clips(str(tmp_path / "m.csv"), LIMITS), tmp_path) == ["a.mp4", "b.mp4", *cut]


def test_a_window_of_a_file_that_is_too_long_is_cut_like_any_other(tmp_path: Path):
    touch(tmp_path, "day.mp4")
    with (tmp_path / "day.mp4").open("ab") as file:
        file.truncate(PROBED_BYTES + 1)
    (tmp_path / "m.csv").write_text("uri,start_s,end_s\nday.mp4,36000,36100\n")
    clips = list_clips(str(tmp_path / "m.csv"), LIMITS, lambda clip: 24 * 3600.0)
    assert [(clip.start_s, clip.end_s) for clip in clips] == [(36000, 36060), (36060, 36100)]


def test_a_clip_that_is_forbidden_is_not_probed(tmp_path: Path):
    touch(tmp_path, "secret/a.mp4", "input/b.mp4")
    (tmp_path / "secret" / "a.mp4").write_bytes(b"x" * (PROBED_BYTES + 1))
    (tmp_path / "input" / "link.mp4").symlink_to(tmp_path / "secret" / "a.mp4")
    (tmp_path / "input" / "m.csv").write_text(
        "uri\nlink.mp4\n../secret/a.mp4\nhttp://host/a.mp4\nzip://a::b.zip\n"
    )
    probed: list[Clip] = []
    for given in ("input", "input/m.csv"):
        list_clips(str(tmp_path / given), LIMITS, probed.append)
    assert probed == []
    list_clips(str(tmp_path / "input"), LIMITS, probed.append, roots=[str(tmp_path / "secret")])
    assert names(probed, tmp_path) == ["input/link.mp4"]


def test_a_root_is_allowed_with_all_below_it_and_nothing_beside(tmp_path: Path):
    touch(tmp_path, "videos/a.mp4", "videos2/b.mp4", "secret/c.mp4")
    (tmp_path / "videos" / "link.mp4").symlink_to(tmp_path / "secret" / "c.mp4")
    (tmp_path / "alias").symlink_to(tmp_path / "videos")
    roots = [str(tmp_path / "alias")]
    for name in ("videos/a.mp4", "alias/a.mp4", "videos/../videos/a.mp4"):
        assert forbidden(f"{tmp_path}/{name}", "/in", roots) is None
        assert forbidden(f"file://{tmp_path}/{name}", "s3://bucket", roots) is None
    for name in ("videos2/b.mp4", "videos/link.mp4", "videos/../secret/c.mp4"):
        assert forbidden(f"{tmp_path}/{name}", "/in", roots) == OUTSIDE


def test_all_files_are_below_the_root_of_the_file_system():
    assert forbidden("/videos/a.mp4", "/in", ["/"]) is None
    assert input_root("/") == "/"


def test_only_the_root_may_be_read_of_what_must_not_be_outside():
    assert outside("s3://bucket/in/a.jpg", "s3://bucket/in") is None
    assert outside("s3://bucket/in2/a.jpg", "s3://bucket/in") == OUTSIDE
    assert outside("s3://bucket/a.jpg", "/in") == OUTSIDE
    assert outside("/more/a.jpg", "/in", ["/more"]) is None


@pytest.mark.parametrize(
    ("clip", "root", "reason"),
    [
        ("/in/a.mp4", "/in", None),
        ("/in/x/../a.mp4", "/in", None),
        ("/elsewhere/a.mp4", "/in", OUTSIDE),
        ("/in2/a.mp4", "/in", OUTSIDE),
        ("file:///etc/a.mp4", "/in", OUTSIDE),
        ("/in/../etc/a.mp4", "/in", OUTSIDE),
        ("/in/x/../../in2/a.mp4", "/in", OUTSIDE),
        ("s3://b/in/a.mp4", "s3://b/in", None),
        ("s3://other/a.mp4", "/in", None),
        ("s3://b/in/../a.mp4", "s3://b/in", "'..'"),
        ("/etc/a.mp4", "s3://b/in", OUTSIDE),
        ("file:///etc/a.mp4", "s3://b/in", OUTSIDE),
        ("http://host/a.mp4", "/in", "chained URL, or none of"),
        ("zip://a.mp4::/in/b.zip", "/in", "chained URL"),
        ("/in/a.mp4::b", "/in", None),
        ("filecache::s3://b/a.mp4", "/in", "chained URL"),
        ("s3://b/in/a.mp4::zip://c", "s3://b/in", "chained URL"),
        ("s3://b/in/a.mp4::b\n::zip://c", "s3://b/in", "chained URL"),
        ("s3://b/in/a::b.mp4", "s3://b/in", None),
        ("file:///in/../etc/a.mp4", "file:///in", OUTSIDE),
        ("http://169.254.169.254/latest/meta-data/a.mp4", "/in", "none of"),
        ("https://10.0.0.1/a.mp4", "/in", "none of"),
        ("ftp://localhost/a.mp4", "/in", "none of"),
        ("/in/concat:a.mp4|b.mp4", "/in", None),
        ("pipe://ls", "/in", "none of"),
        ("S3://b/a.mp4", "/in", "none of"),
        ("/in/a\0.mp4", "/in", "zero byte"),
    ],
)
def test_files_that_may_be_read(clip: str, root: str, reason: str | None):
    found = forbidden(clip, root)
    assert found is None if reason is None else found is not None and reason in found


def test_a_link_to_itself_leaves_nothing(tmp_path: Path):
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    assert forbidden(str(tmp_path / "loop.mp4"), str(tmp_path)) is None


def test_an_error_of_the_file_system_is_an_input_error():
    with pytest.raises(InputError, match=r"cannot be listed: .*File name too long"):
        list_clips("/" + "x" * 5000, LIMITS)


def carried(manifest: Path, *columns: str, window_s: float = 60.0) -> StoredClips:
    return StoredClips(clip_frames(str(manifest), Limits(window_s=window_s), columns=columns))


def test_columns_of_a_manifest_are_carried_to_each_window(tmp_path: Path):
    (tmp_path / "m.csv").write_text("uri,start_s,end_s,robot,n\na.mp4,0,25,left,1\nb.mp4,0,5,,2\n")
    clips = carried(tmp_path / "m.csv", "robot", window_s=10.0)
    rows = pl.concat(clips.frames(["start_s", "robot"])).rows()
    assert rows == [(0.0, "left"), (10.0, "left"), (20.0, "left"), (0.0, None)]
    assert [clip.start_s for clip in clips] == [0.0, 10.0, 20.0, 0.0]


def test_clips_have_the_same_columns_whether_they_are_cut_or_not(tmp_path: Path):
    (tmp_path / "m.csv").write_text("uri,end_s\na.mp4,25\n")
    cut, whole = (next(clip_frames(str(tmp_path / "m.csv"), Limits(window_s=s))) for s in (24.5, 60.0))
    assert (len(cut), len(whole)) == (2, 1)
    assert cut.schema == whole.schema


def test_the_run_depends_on_carried_values(tmp_path: Path):
    digests = set()
    for value in ("left", "right"):
        (tmp_path / "m.csv").write_text(f"uri,robot\na.mp4,{value}\n")
        digests |= {carried(tmp_path / "m.csv").digest, carried(tmp_path / "m.csv", "robot").digest}
    assert len(digests) == 3


@pytest.mark.parametrize("column", ["action", "clip_id", "uri", "object"])
def test_a_carried_column_cannot_have_the_name_of_another(tmp_path: Path, column: str):
    (tmp_path / "m.csv").write_text(f"uri,{column}\na.mp4,x\n" if column != "uri" else "uri\na.mp4\n")
    with pytest.raises(InputError, match=f"columns {column} cannot be carried: the dataset has columns of"):
        carried(tmp_path / "m.csv", column)


def test_columns_are_carried_from_a_manifest_only(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match=r"columns robot cannot be carried from .* it is not a manifest"):
        carried(tmp_path, "robot")
