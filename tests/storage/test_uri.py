import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kinescribe.schemas.errors import DatasetError, UserError
from kinescribe.storage import uri


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request: pytest.FixtureRequest) -> str:
    """A folder that is not there yet, on each kind of store."""
    if request.param == "s3":
        return request.getfixturevalue("bucket") + "/some/folder"
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/folder"
    return str(request.getfixturevalue("tmp_path") / "some" / "folder")


def names(folder: str) -> list[str]:
    return sorted(info.uri.removeprefix(folder) for info in uri.list_files(folder))


def test_what_was_created_is_read_back(folder: str):
    name = uri.join(folder, "deep", "a.bin")
    assert not uri.exists(name)
    assert uri.create(name, b"0123456789", aside=uri.join(folder, ".tmp"))
    assert uri.read_bytes(name) == b"0123456789"
    assert uri.read_tail(name, 3) == b"789"
    assert uri.read_tail(name, 300) == b"0123456789"
    assert uri.exists(name)
    assert uri.is_file(name)
    assert uri.size_bytes(name) == 10


def test_the_second_creator_loses_and_changes_nothing(folder: str):
    name = uri.join(folder, "a.bin")
    assert uri.create(name, b"first")
    assert not uri.create(name, b"second")
    assert uri.read_bytes(name) == b"first"


@pytest.mark.parametrize("store", ["local", "s3"])
def test_one_of_many_racing_creators_wins(store: str, tmp_path: Path, request: pytest.FixtureRequest):
    folder = request.getfixturevalue("bucket") if store == "s3" else str(tmp_path)
    name = uri.join(folder, "contested")
    contents = [bytes([index]) * 100_000 for index in range(16)]
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda content: uri.create(name, content), contents))
    assert sum(won) == 1
    assert uri.read_bytes(name) == contents[won.index(True)]


def test_a_create_whose_reply_was_lost_has_still_won(bucket: str):
    # The store kept the first attempt; what we see is the refusal of our own retry.
    name = uri.join(bucket, "a.bin")
    uri.replace(name, b"mine")
    assert uri.create(name, b"mine")


def test_replace_overwrites(folder: str):
    name = uri.join(folder, "README.md")
    uri.replace(name, b"old and longer")
    uri.replace(name, b"new")
    assert uri.read_bytes(name) == b"new"


def test_a_local_create_leaves_nothing_beside_the_file(tmp_path: Path):
    uri.create(str(tmp_path / "data" / "a"), b"a", aside=str(tmp_path / ".tmp"))
    uri.create(str(tmp_path / "data" / "a"), b"b", aside=str(tmp_path / ".tmp"))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["a"]
    assert list((tmp_path / ".tmp").iterdir()) == []


FULL_DISK = """
import resource, sys
from kinescribe.schemas.errors import StoreError
from kinescribe.storage import uri
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
for publish in (lambda name, data: uri.create(name, data, sys.argv[1] + "/.tmp"), uri.replace):
    try:
        publish(sys.argv[1] + "/data/a", bytes(2_000_000))
    except StoreError as error:
        print(error)
"""


def test_where_the_disk_is_full_nothing_is_seen_and_the_error_says_what_to_do(tmp_path: Path):
    uri.create(str(tmp_path / "data" / "b"), b"b")
    command, root = [sys.executable, "-c", FULL_DISK, str(tmp_path)], Path(__file__).parents[2]
    said = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(said) == 2
    for line in said:
        assert line.startswith(
            f"{tmp_path}/data/a cannot be written: [Errno 27] File too large; make room there"
        )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "data" / "b"]


def test_a_killed_writer_leaves_only_whole_files(tmp_path: Path):
    endless = (
        "import itertools, sys; from kinescribe.storage import uri\n"
        "for i in itertools.count():\n"
        "    uri.create(f'{sys.argv[1]}/data/{i}', bytes([i % 256]) * 2_000_000, sys.argv[1] + '/.tmp')\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", endless, str(tmp_path)], cwd=root) as writer:
        deadline = time.monotonic() + 120
        while len(names(str(tmp_path / "data"))) < 5 and time.monotonic() < deadline:
            time.sleep(0.005)
        writer.kill()
    written = sorted((tmp_path / "data").iterdir(), key=lambda path: int(path.name))
    assert len(written) >= 5
    for path in written:
        assert path.read_bytes() == bytes([int(path.name) % 256]) * 2_000_000


def test_an_absent_folder_lists_as_empty(folder: str):
    assert names(folder) == []


def test_a_listing_is_recursive_and_its_uris_can_be_read(folder: str):
    for name in ("a", "b/c", "b/d/e"):
        uri.create(uri.join(folder, name), name.encode(), aside=uri.join(folder, "aside"))
    found = {info.uri: info.size_bytes for info in uri.list_files(folder)}
    assert found == {uri.join(folder, name): len(name) for name in ("a", "b/c", "b/d/e")}
    assert {uri.read_bytes(name) for name in found} == {b"a", b"b/c", b"b/d/e"}


def test_a_listing_sees_what_came_after_the_last_one(folder: str):
    uri.create(uri.join(folder, "a"), b"a", aside=uri.join(folder, "aside"))
    assert names(folder) == ["/a"]
    uri.create(uri.join(folder, "b"), b"b", aside=uri.join(folder, "aside"))
    assert names(folder) == ["/a", "/b"]


def test_a_file_lists_as_itself(folder: str):
    name = uri.join(folder, "a.mp4")
    uri.create(name, b"abc")
    assert list(uri.list_files(name)) == [uri.FileInfo(name, 3)]


def test_a_link_to_a_folder_is_listed_and_not_followed(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    found = {info.uri: info.size_bytes for info in uri.list_files(str(tmp_path))}
    assert found == {str(tmp_path / "a" / "round"): None, str(tmp_path / "nowhere"): None}


def test_a_local_file_needs_no_copy(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(b"video")
    with uri.local_copy(f"file://{tmp_path}/a.mp4") as path:
        assert path == tmp_path / "a.mp4"


def test_a_copy_keeps_the_suffix_and_goes_with_its_context(bucket: str):
    uri.create(uri.join(bucket, "x", "a.mp4"), b"video")
    with uri.local_copy(uri.join(bucket, "x", "a.mp4")) as path:
        assert path.suffix == ".mp4"
        assert path.read_bytes() == b"video"
    assert not path.exists()


def test_an_empty_name_is_neither_the_working_folder_nor_the_root():
    for use in (uri.absolute, uri.exists, lambda name: uri.join(name, "run.json")):
        with pytest.raises(UserError, match="an empty text was given"):
            use("")


def test_what_is_not_there_is_not_found(folder: str):
    with pytest.raises(FileNotFoundError):
        uri.read_bytes(uri.join(folder, "absent"))
    assert uri.size_bytes(uri.join(folder, "absent")) is None


@pytest.mark.parametrize("bad", ["http://host/a.mp4", "zip://a.mp4::s3://b/c.zip", "simplecache::s3://b/a"])
def test_only_plain_stores_are_opened(bad: str):
    with pytest.raises(UserError, match="cannot be opened"):
        uri.read_bytes(bad)


@pytest.mark.parametrize("bad", ["s3://key:hunter2@bucket/a", "s3://bucket/a?X-Amz-Signature=hunter2"])
def test_a_url_with_credentials_is_not_opened_and_they_are_not_repeated(bad: str):
    for use in (uri.read_bytes, uri.is_file, lambda name: uri.create(name, b""), uri.arrow_store):
        with pytest.raises(UserError, match="must hold no password and no signature") as refused:
            use(bad)
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("s3://key:hunter2@bucket/a", "s3://***@bucket/a"),
        ("no answer of https://hunter2@host/v1", "no answer of https://***@host/v1"),
        ("https://host/a?sig=hunter2&b=1#top", "https://host/a?***&***#top"),
        ("abfs://clips@account/a, judge@http://localhost:8000/v1", None),
        ("what? a/b@c:d", None),
    ],
)
def test_secrets_are_taken_out_of_a_text_and_nothing_else(text: str, redacted: str | None):
    assert uri.redact(text) == (redacted or text)


def test_a_store_without_conditional_writes_is_refused():
    with pytest.raises(DatasetError, match="no atomic create"):
        uri.create("hf://datasets/somebody/something/a.parquet", b"")


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
    assert uri.glob_root(pattern) == root


def test_two_stars_match_any_number_of_folders():
    matches = uri.glob_pattern("s3://b/**/x*.mp4").match
    assert matches("s3://b/x.mp4")
    assert matches("s3://b/c/d/x1.mp4")
    assert not matches("s3://b/c/d/y.mp4")


def test_concurrent_results_come_in_order():
    assert list(uri.concurrently(lambda item: item * 2, range(3000))) == list(range(0, 6000, 2))
