import errno
import gzip
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from kinescribe.schemas.errors import DatasetError, InputError, StoreError
from kinescribe.storage import listing, objects, uri


def names(folder: str) -> list[str]:
    return sorted(info.uri.removeprefix(folder) for info in listing.list_files(folder))


def test_a_created_file_is_read_back(folder: str):
    name = uri.join(folder, "deep", "a.bin")
    assert not objects.exists(name)
    assert objects.create(name, b"0123456789", aside=uri.join(folder, ".tmp"))
    assert objects.read_bytes(name) == b"0123456789"
    assert objects.read_tail(name, 3) == b"789"
    assert objects.read_tail(name, 300) == b"0123456789"
    assert objects.exists(name)
    assert objects.is_file(name)
    assert objects.size_bytes(name) == 10


def test_the_second_creator_loses_and_changes_nothing(folder: str):
    name = uri.join(folder, "a.bin")
    assert objects.create(name, b"first")
    assert not objects.create(name, b"second")
    assert objects.read_bytes(name) == b"first"


@pytest.mark.parametrize("store", ["local", "s3"])
def test_one_of_many_racing_creators_wins(store: str, tmp_path: Path, request: pytest.FixtureRequest):
    folder = request.getfixturevalue("bucket") if store == "s3" else str(tmp_path)
    name = uri.join(folder, "contested")
    contents = [bytes([index]) * 100_000 for index in range(16)]
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda content: objects.create(name, content), contents))
    assert sum(won) == 1
    assert objects.read_bytes(name) == contents[won.index(True)]


def test_a_create_succeeds_if_only_its_reply_was_lost(bucket: str):
    # The store kept the first attempt; what we see is the refusal of our own retry.
    name = uri.join(bucket, "a.bin")
    objects.replace(name, b"mine")
    assert objects.create(name, b"mine")


def test_replace_overwrites(folder: str):
    name = uri.join(folder, "README.md")
    objects.replace(name, b"old and longer")
    objects.replace(name, b"new")
    assert objects.read_bytes(name) == b"new"


def test_a_local_create_leaves_nothing_beside_the_file(tmp_path: Path):
    objects.create(str(tmp_path / "data" / "a"), b"a", aside=str(tmp_path / ".tmp"))
    objects.create(str(tmp_path / "data" / "a"), b"b", aside=str(tmp_path / ".tmp"))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["a"]
    assert list((tmp_path / ".tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("code", "kind", "complaint"),
    [
        (errno.EPERM, DatasetError, "its file system has no hard links"),
        (errno.EACCES, StoreError, "a cannot be written: .*Permission denied; free some space"),
    ],
)
def test_a_file_that_cannot_be_linked_to_its_name_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception], complaint: str
):
    def refuse(path: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(kind, match=complaint):
        objects.create(str(tmp_path / "a"), b"a")
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, sys
from kinescribe.schemas.errors import StoreError
from kinescribe.storage import objects
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
for publish in (lambda name, data: objects.create(name, data, sys.argv[1] + "/.tmp"), objects.replace):
    try:
        publish(sys.argv[1] + "/data/a", bytes(2_000_000))
    except StoreError as error:
        print(error)
"""


def test_a_full_disk_leaves_no_file_and_the_error_gives_a_remedy(tmp_path: Path):
    objects.create(str(tmp_path / "data" / "b"), b"b")
    command, root = [sys.executable, "-c", FULL_DISK, str(tmp_path)], Path(__file__).parents[2]
    said = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(said) == 2
    for line in said:
        assert line.startswith(
            f"{tmp_path}/data/a cannot be written: [Errno 27] File too large; free some space there"
        )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "data" / "b"]


def test_a_killed_writer_leaves_only_whole_files(tmp_path: Path):
    endless = (
        "import itertools, sys; from kinescribe.storage import objects\n"
        "for i in itertools.count():\n"
        "    objects.create(f'{sys.argv[1]}/data/{i}', bytes([i % 256]) * 2_000_000, sys.argv[1] + '/.tmp')\n"
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


def test_a_local_file_needs_no_copy(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(b"video")
    with objects.local_copy(f"file://{tmp_path}/a.mp4") as path:
        assert path == tmp_path / "a.mp4"


def test_a_copy_keeps_the_suffix_and_is_removed_with_its_context(bucket: str):
    objects.create(uri.join(bucket, "x", "a.mp4"), b"video")
    with objects.local_copy(uri.join(bucket, "x", "a.mp4")) as path:
        assert path.suffix == ".mp4"
        assert path.read_bytes() == b"video"
    assert not path.exists()


def put_gzipped(name: str, data: bytes, encoding: str | None = "gzip") -> None:
    bucket, _, key = name.removeprefix("s3://").partition("/")
    options = {"ContentEncoding": encoding} if encoding else {}
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=data, **options)


def test_an_object_that_is_stored_gzipped_is_unpacked(bucket: str):
    for size in (5, 3 << 20):
        put_gzipped(f"{bucket}/a.mp4", gzip.compress(os.urandom(size) + b"video", mtime=0))
        with objects.local_copy(f"{bucket}/a.mp4") as path:
            assert path.suffix == ".mp4"
            assert path.stat().st_size == size + 5
            assert path.read_bytes().endswith(b"video")
        assert not path.exists()
    packed = gzip.compress(b"uri", mtime=0)
    put_gzipped(f"{bucket}/m.csv.gz", packed, None)
    with objects.local_copy(f"{bucket}/m.csv.gz") as path:  # its name says what it is
        assert path.read_bytes() == packed


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (
            gzip.compress(bytes(64 << 20), mtime=0),
            "a.mp4 unpacks to more than [0-9,]+ bytes; store it unpacked",
        ),
        (gzip.compress(b"video", mtime=0)[:-3], "a.mp4 is damaged: .*gzip it again, or store it unpacked"),
        (gzip.compress(b"video" * 99, mtime=0)[:-8] + bytes(8), "a.mp4 is damaged: CRC check failed"),
    ],
)
def test_a_gzipped_object_that_cannot_be_unpacked_is_refused(bucket: str, data: bytes, complaint: str):
    put_gzipped(f"{bucket}/a.mp4", data)
    with pytest.raises(InputError, match=complaint), objects.local_copy(f"{bucket}/a.mp4"):
        pass


def test_an_absent_file_is_not_found(folder: str):
    with pytest.raises(FileNotFoundError):
        objects.read_bytes(uri.join(folder, "absent"))
    assert objects.size_bytes(uri.join(folder, "absent")) is None


def test_a_store_without_conditional_writes_is_refused():
    with pytest.raises(DatasetError, match="no atomic create"):
        objects.create("hf://datasets/somebody/something/a.parquet", b"")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_has_no_end_is_not_read(tmp_path: Path, kind: str):
    endless = tmp_path / "list.json"
    if kind == "pipe":
        os.mkfifo(endless)
    else:
        endless.symlink_to("/dev/zero")
    reads = (objects.read_bytes, objects.read_list, lambda name: objects.read_tail(name, 8))
    for read in (*reads, lambda name: objects.local_copy(name).__enter__()):
        with pytest.raises(InputError, match="is a pipe or a device; name a file"):
            read(str(endless))


def test_a_list_that_is_too_large_is_refused_before_it_is_parsed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(objects, "MAX_LIST_BYTES", 1 << 20)
    (tmp_path / "list.json").write_bytes(bytes(1 << 20))
    assert len(objects.read_list(str(tmp_path / "list.json"))) == 1 << 20
    (tmp_path / "list.json").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(InputError, match="more than 1 MiB; split it"):
        objects.read_list(str(tmp_path / "list.json"))
