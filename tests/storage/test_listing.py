from pathlib import Path

import pytest

from kinescribe.storage import listing, objects, uri


def names(folder: str) -> list[str]:
    return sorted(info.uri.removeprefix(folder) for info in listing.list_files(folder))


def test_an_absent_folder_lists_as_empty(folder: str):
    assert names(folder) == []


def test_a_listing_is_recursive_and_its_uris_can_be_read(folder: str):
    for name in ("a", "b/c", "b/d/e"):
        objects.create(uri.join(folder, name), name.encode(), aside=uri.join(folder, "aside"))
    found = {info.uri: info.size_bytes for info in listing.list_files(folder)}
    assert found == {uri.join(folder, name): len(name) for name in ("a", "b/c", "b/d/e")}
    assert {objects.read_bytes(name) for name in found} == {b"a", b"b/c", b"b/d/e"}


def test_a_listing_shows_files_created_after_the_last_one(folder: str):
    objects.create(uri.join(folder, "a"), b"a", aside=uri.join(folder, "aside"))
    assert names(folder) == ["/a"]
    objects.create(uri.join(folder, "b"), b"b", aside=uri.join(folder, "aside"))
    assert names(folder) == ["/a", "/b"]


def test_a_file_lists_as_itself(folder: str):
    name = uri.join(folder, "a.mp4")
    objects.create(name, b"abc")
    assert list(listing.list_files(name)) == [listing.FileInfo(name, 3)]


def test_a_link_to_a_folder_is_listed_and_not_followed(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    found = {info.uri: info.size_bytes for info in listing.list_files(str(tmp_path))}
    assert found == {str(tmp_path / "a" / "round"): None, str(tmp_path / "nowhere"): None}


@pytest.mark.parametrize(
    ("pattern", "root"),
    [
        ("/a/b/*.mp4", "/a/b"),
        ("/a/**/x/*.mp4", "/a"),
        ("/*.mp4", "/"),
        ("s3://bucket/2024-??/*", "s3://bucket"),
        ("*.mp4", "."),
    ],
)
def test_the_root_of_a_glob_is_the_folder_above_its_first_wildcard(pattern: str, root: str):
    assert listing.glob_root(pattern) == root
