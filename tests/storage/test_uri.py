from pathlib import Path

import pytest

from kinescribe.schemas.errors import UserError
from kinescribe.schemas.paths import without_file_scheme
from kinescribe.storage import listing, objects, uri


def test_an_empty_name_is_refused():
    for use in (uri.absolute, objects.exists, lambda name: uri.join(name, "run.json")):
        with pytest.raises(UserError, match="empty name"):
            use("")


def test_a_path_at_home_is_the_same_wherever_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("~/data/a.bin", "file://~/data/a.bin"):
        assert uri.absolute(name) == f"{tmp_path}/home/data/a.bin"
    assert objects.create("~/data/a.bin", b"x")
    assert objects.read_bytes("~/data/a.bin") == b"x"
    assert [info.size_bytes for info in listing.list_files("~/data")] == [1]
    assert (tmp_path / "home" / "data" / "a.bin").is_file()
    assert not (tmp_path / "~").exists()
    assert uri.absolute("~a") == f"{tmp_path}/~a"


def test_percent_codes_stand_for_characters_in_file_uris_alone(tmp_path: Path):
    path = tmp_path / "100% ünï?.bin"
    assert uri.local_path(path.as_uri()) == path
    assert uri.absolute(path.as_uri()) == str(path)
    assert uri.local_path(str(tmp_path / "a%20b")) == tmp_path / "a%20b"
    assert without_file_scheme("s3://bucket/a%20b") == "s3://bucket/a%20b"


def test_two_colons_make_a_chain_only_with_another_url():
    keys = ["s3://bucket/a::b", "memory://a/::b", "/in/a::b", "file:///a::b"]
    chains = ["s3://bucket/a::zip://b", "simplecache::s3://bucket/a", "zip://a::b.zip", "s3://b/a\n::\nc://d"]
    assert [uri.is_supported(name) for name in (*keys, *chains)] == [True] * 4 + [False] * 4


def test_a_uri_below_another_begins_with_all_its_folders():
    assert uri.is_below("/in/a", "/in")
    assert uri.is_below("/in", "/in")
    assert uri.is_below("/a", "/")
    assert not uri.is_below("/input", "/in")
    relative = [uri.relative_uri(name, "/in/") for name in ("/in/a/b", "/in2/a")]
    assert relative == ["a/b", "/in2/a"]
    assert uri.relative_uri("/in/a.mp4", "/in/a.mp4") == "a.mp4"


def test_parts_of_a_name_are_joined_by_one_slash_each():
    assert uri.join("s3://bucket/a/", "b", "c.parquet") == "s3://bucket/a/b/c.parquet"
    assert uri.join("/data", "c") == "/data/c"


def test_what_is_below_a_folder_has_a_name_relative_to_it():
    for root in ("s3://bucket/clips", "s3://bucket/clips/"):
        assert uri.is_below("s3://bucket/clips/x/a.mp4", root)
        assert uri.relative_uri("s3://bucket/clips/x/a.mp4", root) == "x/a.mp4"
    assert not uri.is_below("s3://bucket/clips-2/a.mp4", "s3://bucket/clips")


def test_an_address_in_a_store_is_absolute_already():
    assert uri.absolute("s3://bucket/a") == "s3://bucket/a"
