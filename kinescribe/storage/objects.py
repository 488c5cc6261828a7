"""Reads whole files, and publishes whole files atomically, on a local disk or in an object store.

No file is opened for writing in place, because an exception inside `with fs.open(…, "wb")` publishes the half
that was written: bytes are complete before they get their name. Knows nothing of Parquet, units or runs.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import stat
import tempfile
import uuid
import zlib
from collections.abc import Generator
from pathlib import Path, PurePosixPath

from kinescribe.schemas.errors import DatasetError, InputError, StoreError
from kinescribe.storage.listing import local_size
from kinescribe.storage.stores import open_store
from kinescribe.storage.uri import is_local, local_path, scheme

CONDITIONAL = ("s3", "gs", "az", "abfs", "memory")
"""The object stores that can refuse to write a second object of the same name."""
GZIP = b"\x1f\x8b"
"""How gzip files begin, and no video does."""
MOST_UNPACKED = 100
"""The most that a gzipped object of a store unpacks to, as a multiple of its size."""
MAX_LIST_BYTES = 256 << 20
"""The largest JSON list that is read. Its items take up to thirty times the memory."""


def read_bytes(uri: str, max_bytes: int | None = None) -> bytes:
    """The whole file. Raises FileNotFoundError, and DatasetError if it has more than `max_bytes`."""
    _refuse_endless(uri)
    with open_store(uri) as (store, path):
        if max_bytes is None:
            return store.cat_file(path)
        data: bytes = store.cat_file(path, start=0, end=max_bytes + 1)
    if len(data) > max_bytes:
        raise DatasetError(f"{uri} is damaged: it has more than {max_bytes >> 20} MiB")
    return data


def read_list(uri: str) -> bytes:
    """A JSON list that somebody wrote. Raises OSError, and InputError if it is too large."""
    try:
        return read_bytes(uri, MAX_LIST_BYTES)
    except DatasetError as error:
        raise InputError(f"{uri} has more than {MAX_LIST_BYTES >> 20} MiB; split it") from error


def read_tail(uri: str, num_bytes: int) -> bytes:
    """The last `num_bytes` of a file, or all of a shorter one, in one request."""
    _refuse_endless(uri)
    with open_store(uri) as (store, path):
        return store.cat_file(path, start=-num_bytes)


def exists(uri: str) -> bool:
    """Whether a file or a folder has this name."""
    with open_store(uri) as (store, path):
        return store.exists(path)


def is_file(uri: str) -> bool:
    """Whether a file has this name."""
    with open_store(uri) as (store, path):
        return store.isfile(path)


def size_bytes(uri: str) -> int | None:
    """The size of a file, None if it does not exist or cannot be read."""
    if is_local(uri):
        return local_size(str(local_path(uri)))
    # S3 answers a request for an absent object with PermissionError.
    absent = contextlib.suppress(FileNotFoundError, PermissionError)
    with contextlib.suppress(InputError), open_store(uri) as (store, path), absent:
        return store.size(path)
    return None


def create(uri: str, data: bytes, aside: str | None = None) -> bool:
    """Publish `data` under this name in one step, unless the name is taken.

    Returns whether the object of that name is this call's. A name is never overwritten, and never shows half
    of its bytes. `aside` is the folder in which a local file is prepared, on the same disk; by default it is
    the file's own folder, under a hidden name. Raises StoreError.
    """
    if is_local(uri):
        path = local_path(uri)
        with _write_errors(uri):
            return _link(path, data, local_path(aside) if aside else path.parent)
    if scheme(uri) not in CONDITIONAL:
        raise DatasetError(
            f"{uri} cannot be written: {scheme(uri)}:// has no atomic create; "
            f"write to a local folder or one of {', '.join(CONDITIONAL)}, then upload"
        )
    with _write_errors(uri), open_store(uri) as (store, path):
        try:
            store.pipe_file(path, data, mode="create")
        except OSError:
            # The name is taken: by another writer, or by our own first attempt, if the reply to it was lost.
            if not store.exists(path):
                raise
            return store.cat_file(path) == data
    return True


def replace(uri: str, data: bytes) -> None:
    """Publish `data` under this name, replacing what is there; only for files that can be derived again."""
    if not is_local(uri):
        with _write_errors(uri), open_store(uri) as (store, path):
            store.pipe_file(path, data)
        return
    path = local_path(uri)
    with _write_errors(uri), _prepared(path, data, path.parent) as temporary:
        temporary.replace(path)


def remove(uri: str) -> None:
    """Remove a file; one that is absent already is no error."""
    if is_local(uri):
        local_path(uri).unlink(missing_ok=True)
        return
    with contextlib.suppress(FileNotFoundError), open_store(uri) as (store, path):
        store.rm_file(path)


@contextlib.contextmanager
def local_copy(uri: str) -> Generator[Path]:
    """The file as a local path: itself if it is local, else a download that lasts as long as the context.

    An object that was gzipped to be stored (`Content-Encoding: gzip`) is unpacked. Raises InputError if that
    fails.
    """
    if is_local(uri):
        _refuse_endless(uri)
        yield local_path(uri)
        return
    with tempfile.TemporaryDirectory(prefix="kinescribe-") as folder, contextlib.ExitStack() as stack:
        with open_store(uri) as (store, path):
            suffix = PurePosixPath(path).suffix
            copy = Path(folder, "file").with_suffix(suffix)
            store.get_file(path, str(copy))
        if suffix.lower() != ".gz" and _is_gzipped(copy):
            max_bytes = MOST_UNPACKED * copy.stat().st_size
            copy = stack.enter_context(unpacked(copy, uri, max_bytes, suffix))
        yield copy


@contextlib.contextmanager
def unpacked(packed: Path, uri: str, max_bytes: int, suffix: str = "") -> Generator[Path]:
    """What the gzip file of this URI holds, in a file that lasts as long as the context.

    Raises InputError if it is damaged or holds more than `max_bytes`.
    """
    with tempfile.TemporaryDirectory(prefix="kinescribe-") as folder:
        path = Path(folder, "unpacked").with_suffix(suffix)
        try:
            with gzip.open(packed) as source, path.open("xb") as file:
                left = max_bytes
                while block := source.read(1 << 20):
                    if (left := left - len(block)) < 0:
                        raise InputError(f"{uri} unpacks to more than {max_bytes:,} bytes; store it unpacked")
                    file.write(block)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{uri} is damaged: {error}; gzip it again, or store it unpacked") from error
        yield path


def _is_gzipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP)) == GZIP


def _refuse_endless(uri: str) -> None:
    """Raises InputError for a local pipe or device: reading it might wait or go on for ever."""
    if not is_local(uri):
        return
    try:
        mode = local_path(uri).stat().st_mode
    except (OSError, ValueError):  # absent, or a zero byte in its name: its reader says so
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{uri} is a pipe or a device; name a file")


@contextlib.contextmanager
def _write_errors(uri: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{uri} cannot be written: {error}; free some space there, or choose a folder or a bucket that "
            "you may write to, then run the same command again"
        ) from error


@contextlib.contextmanager
def _prepared(path: Path, data: bytes, folder: Path) -> Generator[Path]:
    """The bytes, synced to the disk, under a temporary name in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{uuid.uuid4().hex}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _link(path: Path, data: bytes, folder: Path) -> bool:
    with _prepared(path, data, folder) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            raise DatasetError(
                f"{path} cannot be written: its file system has no hard links, which publish a file "
                "in one step; choose a folder on another disk or in an object store"
            ) from error
    return True


def _sync_folder(folder: Path) -> None:
    """Make new names in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
