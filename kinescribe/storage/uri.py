"""Files by URI, on a local disk or in an object store; the only door to fsspec.

A URI without a scheme is a local path. Nothing here ever opens a file for writing in place: bytes are
complete before they are published, because an exception inside `with fs.open(…, "wb")` publishes the
half that was written. Knows nothing of Parquet, units or runs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import fsspec
import pyarrow.fs
from fsspec.utils import glob_translate

from kinescribe.schemas.errors import DatasetError, InputError, StoreError, UserError

SCHEMES = ("file", "s3", "gs", "az", "abfs", "hf", "memory")
"""The stores that may be read; chained (`a::b`), shell and web URLs are not among them."""
CONDITIONAL = ("s3", "gs", "az", "abfs", "memory")
"""The object stores that refuse to write a second object of the same name, if asked to."""
NO_CREDENTIALS = "must hold no password and no signature; give them by the store's environment variables"
CREDENTIALS = (
    r"(?i)://[^/@]*:[^/@]*@|https?://[^/]*@|://.*[?&][^=&]*(sig|token|key|secret|password|credential)[^=&]*="
)
"""Of a URL that holds a password or was signed; for Python's and for Rust's regular expressions."""
NO_NAME = (
    "an empty text was given where a file or a folder is to be named; is a variable of the shell not set?"
)
SECRETS = re.compile(
    r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)|(?<=http://)[^/@\s]+(?=@)|(?<=https://)[^/@\s]+(?=@)|(?<=[?&])[^?&#\s]+"
)
THREADS = 16
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as a listing shows it; `size_bytes` is None where it has none, as a link to nowhere."""

    uri: str
    size_bytes: int | None


def scheme(uri: str) -> str:
    """The scheme before `://`, `file` for a plain path."""
    before, separator, _ = uri.partition("://")
    return before if separator else "file"


def is_supported(uri: str) -> bool:
    """Whether the URI is of a store that may be read, and no chain (`a::b`); local names may hold `::`."""
    return scheme(uri) in SCHEMES and ("::" not in uri or is_local(uri))


def is_local(uri: str) -> bool:
    """Whether the URI is a path on this machine."""
    return scheme(uri) == "file"


def local_path(uri: str) -> Path:
    """The path of a local URI. Raises UserError where that is empty."""
    assert is_local(uri), uri
    if not uri:  # which would be the working folder
        raise UserError(NO_NAME)
    return Path(uri.removeprefix("file://"))


def absolute(uri: str) -> str:
    """The URI as it is understood in any working folder."""
    return str(local_path(uri).absolute()) if is_local(uri) else uri


def holds_credentials(uri: str) -> bool:
    """Whether the URL says how to get in, by a password or a signature: it would be written down with it."""
    return re.search(CREDENTIALS, uri) is not None


def redact(text: str) -> str:
    """The text without passwords and signatures in its URIs."""
    return SECRETS.sub("***", text) if "://" in text else text


def join(base: str, *parts: str) -> str:
    """A URI below `base`. Raises UserError where that is empty."""
    if not base:  # below which would be the root
        raise UserError(NO_NAME)
    return "/".join([base.rstrip("/"), *parts])


def read_bytes(uri: str) -> bytes:
    """The whole file. Raises FileNotFoundError."""
    with _reached(uri) as (store, path):
        return store.cat_file(path)


def read_tail(uri: str, num_bytes: int) -> bytes:
    """The last `num_bytes` of a file, or all of a shorter one, in one request."""
    with _reached(uri) as (store, path):
        return store.cat_file(path, start=-num_bytes)


def exists(uri: str) -> bool:
    """Whether there is a file or a folder of this name."""
    with _reached(uri) as (store, path):
        return store.exists(path)


def is_file(uri: str) -> bool:
    """Whether there is a file of this name."""
    with _reached(uri) as (store, path):
        return store.isfile(path)


def size_bytes(uri: str) -> int | None:
    """The size of a file, None where there is none to be seen."""
    if is_local(uri):
        return _stat_size(str(local_path(uri)))
    # PermissionError is what S3 says of one that is absent.
    absent = contextlib.suppress(FileNotFoundError, PermissionError)
    with contextlib.suppress(InputError), _reached(uri) as (store, path), absent:
        return store.size(path)
    return None


def create(uri: str, data: bytes, aside: str | None = None) -> bool:
    """Publish `data` under this name in one step, unless the name is taken.

    True if the object now there is this call's, False if it was somebody else's: a name is never
    overwritten and never shows half its bytes. `aside` is the folder in which a local file is prepared,
    on the same disk; by default the file's own, under a hidden name. Raises StoreError.
    """
    if is_local(uri):
        path = local_path(uri)
        with _writing(uri):
            return _link(path, data, local_path(aside) if aside else path.parent)
    if scheme(uri) not in CONDITIONAL:
        raise DatasetError(
            f"{uri} cannot be written: {scheme(uri)}:// has no atomic create; "
            f"write to a local folder or one of {', '.join(CONDITIONAL)}, then upload"
        )
    with _writing(uri), _reached(uri) as (store, path):
        try:
            store.pipe_file(path, data, mode="create")
        except OSError:
            # The name is taken: by a rival, or by our own first attempt, of which the reply was lost.
            if not store.exists(path):
                raise
            return store.cat_file(path) == data
    return True


def replace(uri: str, data: bytes) -> None:
    """Publish `data` under this name, whatever was there; for files that can be derived again."""
    if not is_local(uri):
        with _writing(uri), _reached(uri) as (store, path):
            store.pipe_file(path, data)
        return
    path = local_path(uri)
    with _writing(uri), _aside(path, data, path.parent) as temporary:
        temporary.replace(path)


def list_files(uri: str, prefix: str = "") -> Iterator[FileInfo]:
    """Every file below `uri` in an unspecified order, the file itself if it is one; empty if absent.

    Links to folders are files without a size. `prefix` narrows what an object store is asked for, no disk.
    """
    if is_local(uri):
        yield from _walk(uri)
        return
    with _reached(uri) as (store, path):
        try:
            found: dict[str, dict[str, Any]] = store.find(path, detail=True, prefix=prefix)
        except FileNotFoundError as error:  # a folder that is absent is an empty one, a bucket isn't
            raise StoreError(f"{uri} cannot be listed: {error}; name a bucket that is there") from error
    for name, info in found.items():
        yield FileInfo(uri.rstrip("/") + name.removeprefix(path.rstrip("/")), info["size"])


def glob_root(pattern: str) -> str:
    """The folder above the first wildcard of a glob pattern."""
    fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return fixed.rpartition("/")[0] or ("/" if fixed.startswith("/") else ".")


def glob_pattern(pattern: str) -> re.Pattern[str]:
    """The URIs that match a glob pattern, in which `**` stands for any number of folders."""
    return re.compile(glob_translate(pattern))


def concurrently(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map` in threads that wait for the store, a thousand items ahead at most."""
    remaining = iter(items)
    with ThreadPoolExecutor(THREADS) as pool:
        while some := list(islice(remaining, 1024)):
            yield from pool.map(function, some)


@contextlib.contextmanager
def local_copy(uri: str) -> Generator[Path]:
    """The file as a local path: itself if it is local, else a download that lasts as long as the context."""
    if is_local(uri):
        yield local_path(uri)
        return
    with tempfile.TemporaryDirectory(prefix="kinescribe-") as folder:
        with _reached(uri) as (store, path):
            copy = Path(folder, "file").with_suffix(PurePosixPath(path).suffix)
            store.get_file(path, str(copy))
        yield copy


def arrow_store(uri: str) -> tuple[Any, str]:
    """The `pyarrow.fs.FileSystem` of a URI, and the URI's path in it."""
    if is_local(uri):
        return pyarrow.fs.LocalFileSystem(), str(local_path(uri).absolute())
    store, path = _store(uri)
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(store)), path


def _store(uri: str) -> tuple[Any, str]:
    if not is_supported(uri):
        raise UserError(f"{redact(uri)} cannot be opened; give a local path or a URL of {', '.join(SCHEMES)}")
    if is_local(uri):
        return fsspec.filesystem("file"), str(local_path(uri))
    if holds_credentials(uri):
        raise UserError(f"{redact(uri)} {NO_CREDENTIALS}")
    try:
        return _opened(uri)
    except ImportError as error:
        raise UserError(f"{uri} needs a package that is not installed: {error}") from error
    except _address_errors(uri) as error:
        raise _no_address(uri, error) from error


def _no_address(uri: str, error: Exception) -> InputError:
    return InputError(f"{redact(uri)} is no address in a store: {redact(str(error))}; mend it")


def _opened(uri: str) -> tuple[Any, str]:
    # Other machines write to the same folders, so a listing is never reused.
    if scheme(uri) != "s3":
        return fsspec.url_to_fs(uri, use_listings_cache=False)
    from kinescribe.storage import s3

    store, path = fsspec.url_to_fs(uri, use_listings_cache=False, **s3.options())
    s3.set_up(store)
    return store, path


@contextlib.contextmanager
def _reached(uri: str) -> Generator[tuple[Any, str]]:
    """The store of a URI, and the URI's path in it.

    What the client of an object store raises, when it has tried often enough, is a StoreError, except for a
    name that is absent or taken; an InputError where no store has such addresses.
    """
    store, path = _store(uri)
    try:
        yield store, path
    except (FileNotFoundError, FileExistsError, UserError):
        raise
    except _address_errors(uri) as error:
        raise _no_address(uri, error) from error
    except _client_errors(uri) as error:
        raise StoreError(
            f"{uri}: {redact(str(error) or repr(error))}; see that the store answers and that you may use it "
            "(s3:// takes AWS_PROFILE, AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or for a public bucket "
            "FSSPEC_S3_ANON=1), then run the same command again"
        ) from error


def _address_errors(uri: str) -> tuple[type[Exception], ...]:
    """What the client of an object store raises where an address cannot be one of its store."""
    if is_local(uri):
        return ()
    if scheme(uri) != "s3":
        return ValueError, RuntimeError
    from kinescribe.storage import s3

    return s3.ADDRESS_ERRORS


def _client_errors(uri: str) -> tuple[type[Exception], ...]:
    """What the client of an object store raises; a disk's errors say enough."""
    if is_local(uri):
        return ()
    if scheme(uri) != "s3":
        return (OSError,)
    from kinescribe.storage import s3

    return s3.CLIENT_ERRORS


@contextlib.contextmanager
def _writing(uri: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{uri} cannot be written: {error}; make room there, or choose a folder or a bucket that you may "
            "write to, then run the same command again"
        ) from error


def _walk(uri: str) -> Iterator[FileInfo]:
    root = local_path(uri)
    if root.is_file():
        yield FileInfo(uri, root.stat().st_size)
    if not root.is_dir():
        return
    for folder, subfolders, names in os.walk(root, onerror=_raise):
        below = Path(folder).relative_to(root).as_posix()
        prefix = uri if below == "." else join(uri, below)
        links = [name for name in subfolders if Path(folder, name).is_symlink()]
        yield from (FileInfo(_as_text(join(prefix, name)), None) for name in links)
        yield from (FileInfo(_as_text(join(prefix, name)), _stat_size(f"{folder}/{name}")) for name in names)


def _as_text(name: str) -> str:
    """A name that is no UTF-8 with marks for its strange bytes: then nothing is found under it."""
    return os.fsencode(name).decode(errors="replace")


def _raise(error: OSError) -> None:
    raise error


def _stat_size(path: str) -> int | None:
    try:
        return os.stat(path).st_size  # noqa: PTH116 (a Path costs twice the time of the call)
    except OSError:
        return None


@contextlib.contextmanager
def _aside(path: Path, data: bytes, folder: Path) -> Generator[Path]:
    """The bytes, on the disk for good, under a name that nobody reads."""
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
    with _aside(path, data, folder) as temporary:
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
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def leads_out_of_folder(path: str) -> bool:
    """Whether a path that a list names lies, as it is written, outside the list's own folder."""
    return Path(path).is_absolute() or ".." in Path(path).parts
