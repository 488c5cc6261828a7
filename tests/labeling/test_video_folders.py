import logging
import os
from pathlib import Path

import av
import pytest

from kinescribe.labeling.inputs import OUTSIDE, forbidden, input_root, list_clips
from kinescribe.labeling.video_folders import VIDEOS, videos_below
from kinescribe.media.decode import CONTAINERS, open_video
from kinescribe.schemas.clips import Clip
from kinescribe.schemas.config import Limits
from kinescribe.schemas.errors import InputError
from kinescribe.storage import objects, uri
from tests.videos import pan, write_video


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def link(path: Path, target: Path | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def names(given: Path | str, *roots: Path) -> list[str]:
    clips: list[Clip] = list_clips(str(given), Limits(), roots=[*map(str, roots)])
    root = input_root(str(given))
    assert [forbidden(clip.uri, root, [*map(str, roots)]) for clip in clips] == [None] * len(clips)
    return [uri.relative_uri(clip.uri, root) for clip in clips]


def refusal(given: Path | str, *roots: Path) -> str:
    with pytest.raises(InputError) as refused:
        list_clips(str(given), Limits(), roots=[*map(str, roots)])
    return str(refused.value)


def test_hidden_files_of_a_folder_are_left_out(tmp_path: Path):
    touch(tmp_path, "a.mp4", "._a.mp4", ".trash/b.mp4")
    assert names(tmp_path) == ["a.mp4"]


def test_a_name_that_is_not_utf_8_is_one_missing_clip(tmp_path: Path):
    touch(tmp_path, "a.mp4")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/lat\xe9.mp4")).write_bytes(b"x")
    clips = list_clips(str(tmp_path), Limits())
    assert names(tmp_path) == ["a.mp4", "lat\ufffd.mp4"]
    assert not objects.is_file(clips[1].uri)


def test_a_glob_takes_the_files_that_match(tmp_path: Path):
    touch(tmp_path, "run/a.mp4", "run/b.mp4", "jump/a.mp4", "jump/a.bin", "a.mp4")
    clips = list_clips(f"{tmp_path}/*/a.*", Limits())
    assert names(f"{tmp_path}/*/a.*") == ["jump/a.bin", "jump/a.mp4", "run/a.mp4"]
    assert [clip.action_class for clip in clips] == ["jump", "jump", "run"]
    assert len(list_clips(f"{tmp_path}/**/*.mp4", Limits())) == 4


def test_links_to_files_are_kept_in_the_list_and_leaving_ones_are_forbidden(tmp_path: Path):
    touch(tmp_path, "in/a.mp4", "in/sub/b.mp4", "out/c.mp4")
    (tmp_path / "in" / "inside.mp4").symlink_to(tmp_path / "in" / "a.mp4")
    (tmp_path / "in" / "outside.mp4").symlink_to(tmp_path / "out" / "c.mp4")
    root = input_root(str(tmp_path / "in"))
    verdicts = {Path(c.uri).name: forbidden(c.uri, root) for c in list_clips(str(tmp_path / "in"), Limits())}
    assert verdicts == {"a.mp4": None, "inside.mp4": None, "b.mp4": None, "outside.mp4": OUTSIDE}
    assert forbidden(f"{root}/outside.mp4", root, [str(tmp_path / "out")]) is None


def test_a_linked_video_that_is_named_itself_is_taken(tmp_path: Path):
    touch(tmp_path, "blobs/0123")
    (tmp_path / "clip.mp4").symlink_to(tmp_path / "blobs" / "0123")
    given = str(tmp_path / "clip.mp4")
    (clip,) = list_clips(given, Limits())
    assert forbidden(clip.uri, input_root(given)) is None


def test_a_linked_folder_may_be_the_input(tmp_path: Path):
    touch(tmp_path, "real/run/a.mp4")
    link(tmp_path / "alias", "real")
    assert names(tmp_path / "alias") == ["run/a.mp4"]
    assert names(f"{tmp_path}/alias/*/*.mp4") == ["run/a.mp4"]


def test_a_linked_folder_is_followed_within_the_input_and_each_file_listed_once(tmp_path: Path):
    touch(tmp_path, "in/.store/kick/a.mp4", "in/jump/b.mp4")
    link(tmp_path / "in" / "kick", ".store/kick")
    link(tmp_path / "in" / "also", "kick")
    link(tmp_path / "in" / "leap", "jump")
    link(tmp_path / "in" / "jump" / "round", "..")
    link(tmp_path / "in" / "self", ".")
    assert names(tmp_path / "in") == ["also/a.mp4", "jump/b.mp4"]


def test_a_folder_that_links_lead_to_is_listed_under_its_own_name(tmp_path: Path):
    touch(tmp_path, "in/z/a.mp4")
    link(tmp_path / "in" / "a", "z")
    assert names(tmp_path / "in") == ["z/a.mp4"]


def test_a_linked_folder_outside_is_refused_until_a_root_allows_it(tmp_path: Path):
    touch(tmp_path, "in/a.mp4", "my data/train/b.mp4", "my data/c.mp4")
    link(tmp_path / "in" / "train", tmp_path / "my data" / "train")
    link(tmp_path / "my data" / "train" / "up", "..")
    message = refusal(tmp_path / "in")
    assert (
        f"{tmp_path}/in/train to {tmp_path}/my data/train; add --root '{tmp_path}/my data/train'" in message
    )
    up = refusal(tmp_path / "in", tmp_path / "my data" / "train")
    assert f"{tmp_path}/in/train/up to {tmp_path}/my data; add --root '{tmp_path}/my data'" in up
    assert names(tmp_path / "in", tmp_path / "my data") == ["a.mp4", "train/b.mp4", "train/up/c.mp4"]


def test_of_many_linked_folders_outside_a_few_are_named(tmp_path: Path):
    for index in range(9):
        touch(tmp_path, f"out{index}/a.mp4")
        link(tmp_path / "in" / f"{index}", tmp_path / f"out{index}")
    message = refusal(tmp_path / "in")
    assert message.count(" --root ") == 5
    assert "and 4 more; add" in message


def test_a_glob_follows_linked_folders_that_it_may_match_in(tmp_path: Path):
    touch(tmp_path, "in/store/kick/a.mp4", "in/b.mp4", "out/c.mp4", "out/sub/d.mp4")
    link(tmp_path / "in" / "kick", "store/kick")
    link(tmp_path / "in" / "punt", "kick")
    link(tmp_path / "in" / "loop", ".")
    assert names(f"{tmp_path}/in/*/*.mp4") == ["kick/a.mp4", "loop/b.mp4"]
    assert names(f"{tmp_path}/in/p*/*.mp4") == ["punt/a.mp4"]
    assert names(f"{tmp_path}/in/**/*.mp4") == ["b.mp4", "store/kick/a.mp4"]
    link(tmp_path / "in" / "far", tmp_path / "out")
    for pattern in ("*.mp4", "[bf]*"):
        assert names(f"{tmp_path}/in/{pattern}") == ["b.mp4"]
    assert names(f"{tmp_path}/in/p*/*.mp4") == ["punt/a.mp4"]
    for pattern in ("*/*.mp4", "**/*.mp4", "f??/*/*.mp4"):
        assert f"add --root {tmp_path}/out" in refusal(f"{tmp_path}/in/{pattern}")
    assert names(f"{tmp_path}/in/f??/*/*.mp4", tmp_path / "out") == ["far/sub/d.mp4"]
    (tmp_path / "in" / "far").rename(tmp_path / "in" / "store" / "far")
    assert f"add --root {tmp_path}/out" in refusal(f"{tmp_path}/in/**/sub/*.mp4")


@pytest.mark.parametrize("pattern", ["a**.mp4", "***/*.mp4"])
def test_two_stars_in_a_name_are_refused(tmp_path: Path, pattern: str):
    touch(tmp_path, "a.mp4")
    assert f"{pattern} is not a valid pattern: ** must stand alone" in refusal(f"{tmp_path}/{pattern}")


def test_links_to_files_outside_are_told_before_anything_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    touch(tmp_path, "in/a.mp4", "in/b.mp4", "out/c.mp4", "out/notes.txt")
    link(tmp_path / "in" / "inside.mp4", "a.mp4")
    link(tmp_path / "in" / "notes.txt", tmp_path / "out" / "notes.txt")
    assert len(list_clips(str(tmp_path / "in"), Limits())) == 3
    assert caplog.messages == [f"{tmp_path}/in: left out 1 file: 1 .txt"]
    link(tmp_path / "in" / "x.mp4", tmp_path / "out" / "c.mp4")
    link(tmp_path / "in" / "y.mp4", tmp_path / "out" / "c.mp4")
    for given in (f"{tmp_path}/in", f"{tmp_path}/in/*.mp4"):
        caplog.clear()
        list_clips(given, Limits())
        told = f"such as {tmp_path}/in/x.mp4, which leads to {tmp_path}/out/c.mp4; each will be rejected"
        assert caplog.messages[-1].startswith(f"linked files outside the input: 2, {told}")
        assert caplog.messages[-1].endswith(f"by --root {tmp_path}/out")
        caplog.clear()
        list_clips(given, Limits(), roots=[str(tmp_path / "out")])
        assert "linked files" not in caplog.text


def test_links_that_lead_nowhere_stay_what_they_are(tmp_path: Path):
    touch(tmp_path, "in/a.mp4")
    link(tmp_path / "in" / "loop", "loop")
    link(tmp_path / "in" / "loop.mp4", "loop.mp4")
    link(tmp_path / "in" / "gone", tmp_path / "absent")
    assert names(tmp_path / "in") == ["a.mp4", "loop.mp4"]


def test_what_a_folder_leaves_out_is_counted_by_ending(
    tmp_path: Path, bucket: str, caplog: pytest.LogCaptureFixture
):
    texts = [f"{index}.TXT" for index in range(10)]
    odd = ["README", "a.j/son", "b.\x1b[31m", "c.x_1", "d.yy", "e.zz", "f.aé"]
    files = ["a.mp4", *texts, "b.json", "sub/c.json", *odd, ".hidden", ".git/config", "sub/._a.txt"]
    touch(tmp_path, *files)
    videos_below(str(tmp_path), [])
    counts = "left out 19 files: 10 .txt, 2 .json, 1 .x_1, 1 .yy, 1 .zz, 4 others"
    assert caplog.messages == [f"{tmp_path}: {counts}"]
    caplog.clear()
    for name in files:
        objects.create(uri.join(bucket, name), b"x")
    assert len(list_clips(bucket, Limits())) == 1
    assert caplog.messages == [f"{bucket}: {counts}"]


def test_nothing_is_said_of_a_folder_that_leaves_nothing_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    touch(tmp_path, "a.mp4", ".DS_Store", ".cache/x.txt")
    caplog.set_level(logging.DEBUG, logger="kinescribe")
    assert names(tmp_path) == ["a.mp4"]
    assert caplog.messages == []


def test_the_endings_of_cameras_and_phones_are_videos(tmp_path: Path):
    files = ["a.avif", "a.apng", "a.insv", "a.lrv", "a.360", "a.mod", "a.TOD", "a.3gpp", "a.mpv", "a.m2p"]
    touch(tmp_path, *files)
    assert sorted(names(tmp_path)) == sorted(files)


def test_every_ending_that_ffmpeg_knows_for_our_video_containers_is_taken():
    audio_or_stills = {"aac", "flac", "m2a", "m4a", "m4b", "mka", "mks", "mp2", "mp3", "mpa", "isma", "psp"}
    audio_or_stills |= {"heic", "heif", "ism", "mpo", "dif", "h26l", "ogg"}
    known = {
        f".{extension}"
        for name in CONTAINERS.split(",")
        for extension in av.format.ContainerFormat(name, "r").extensions
        if extension not in audio_or_stills
    }
    assert known - VIDEOS == set()


def test_the_ending_of_a_video_does_not_matter_to_the_decoder(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(3))
    for extension in ("insv", "lrv", "360", "mod", "3gpp", "avif"):
        copy = tmp_path / f"clip.{extension}"
        copy.write_bytes(path.read_bytes())
        with open_video(copy) as video:
            assert len(list(video.frames())) == 3
