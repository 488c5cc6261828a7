import os
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


def tree(folder: Path, inside: Path, every_name: bool = False) -> dict[str, object]:
    """The names below a folder: what a link leads to, whether another may be read, or FORBIDDEN."""
    found = {}
    for info in listing.list_tree(str(folder), lambda path: uri.is_below(path, str(inside)), every_name):
        assert info.uri not in found
        found[info.uri.removeprefix(f"{folder}/")] = (
            info.leads_to if isinstance(info, listing.LocalFile) else ("forbidden", info.leads_to)
        )
    return found


def test_a_tree_has_each_folder_once_and_ends_at_the_links_that_may_not_be_entered(tmp_path: Path):
    folder = tmp_path / "in"
    for name in ("in/a/x", "in/.h/y", "out/z"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name, target in (("0", "a"), ("h", ".h"), ("a/up", ".."), ("a/out", tmp_path / "out"), ("l", "a/x")):
        (folder / name).symlink_to(target)
    inside = {"a/x": None, "h/y": None, "l": str(folder / "a" / "x")}
    assert tree(folder, folder) == {**inside, "a/out": ("forbidden", str(tmp_path / "out"))}
    assert tree(folder, tmp_path) == {**inside, "a/out/z": None}
    every_name = tree(folder, tmp_path, every_name=True)
    assert {"0/x", "a/x", "h/y", ".h/y", "a/out/z", "a/up/a/x", "l"} <= every_name.keys()


def test_a_tree_says_where_each_file_is_and_how_large(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.mp4").write_bytes(b"abc")
    (found,) = listing.list_tree(str(tmp_path), lambda _: False)
    path = str(tmp_path / "a" / "x.mp4")
    assert found == listing.LocalFile(path, 3, path)


def test_hidden_files_are_listed_only_if_asked_for(tmp_path: Path):
    (tmp_path / ".hidden").touch()
    assert list(listing.list_tree(str(tmp_path), lambda _: True)) == []
    assert len(list(listing.list_tree(str(tmp_path), lambda _: True, every_name=True))) == 1


def test_a_name_that_is_no_text_is_listed_with_replacement_characters(tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")).touch()
    shown = f"{tmp_path}/\ufffd.mp4"
    assert [info.uri for info in listing.list_files(str(tmp_path))] == [shown]
    assert [info.uri for info in listing.list_tree(str(tmp_path), lambda _: False)] == [shown]


def test_a_folder_that_cannot_be_read_is_an_error_and_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def scandir(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError):
        list(listing.list_files(str(tmp_path)))


def test_a_tree_of_folders_that_all_link_to_each_other_ends(tmp_path: Path):
    for name in "abcdefghij":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
        for other in "abcdefghij":
            (tmp_path / name / other).symlink_to(tmp_path / other)
    assert sorted(tree(tmp_path, tmp_path)) == [f"{name}/x" for name in "abcdefghij"]
    assert len(tree(tmp_path, tmp_path, every_name=True)) == 110  # ten folders, and a hundred links once each


def test_a_link_through_a_folder_that_may_not_be_read_is_a_file(tmp_path: Path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "below").symlink_to("loop/x")
    assert set(tree(tmp_path, tmp_path)) == {"loop", "below"}


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
