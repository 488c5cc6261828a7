"""The store behind a URI, and its errors as messages; the only importer of fsspec."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Generator
from typing import Any

import fsspec
import pyarrow.fs
from fsspec.utils import glob_translate

from kinescribe.schemas.errors import InputError, StoreError, UserError
from kinescribe.storage.credentials import NO_CREDENTIALS, holds_credentials, redact
from kinescribe.storage.uri import SCHEMES, is_local, is_supported, local_path, scheme

ACCESS = {
    "s3": "AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=1 for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or what `gcloud auth application-default login` leaves",
    "az": "AZURE_STORAGE_CONNECTION_STRING",
    "abfs": "AZURE_STORAGE_CONNECTION_STRING",
    "hf": "HF_TOKEN, or what `hf auth login` leaves",
    "memory": "nothing",
}
"""How each store is told who asks."""


@contextlib.contextmanager
def open_store(uri: str) -> Generator[tuple[Any, str]]:
    """The store's client, and the URI's path in the store.

    In the block, an error of an object store's client, which it raises after several attempts, becomes a
    StoreError, unless a name is absent or taken; it becomes an InputError if the address is malformed.
    """
    store, path = _store(uri)
    try:
        yield store, path
    except (FileNotFoundError, FileExistsError, UserError):
        raise
    except _address_errors(uri) as error:
        raise _bad_address(uri, error) from error
    except _client_errors(uri) as error:
        raise StoreError(
            f"{uri}: {redact(str(error) or repr(error))}; check that the store answers and lets you in "
            f"({scheme(uri)}:// takes {ACCESS[scheme(uri)]}), then run the same command again"
        ) from error


def arrow_filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The same store for pyarrow, and the URI's path in it."""
    if is_local(uri):
        return pyarrow.fs.LocalFileSystem(), str(local_path(uri).absolute())
    store, path = _store(uri)
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(store)), path


def glob_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression for a glob pattern, in which `**` stands for any number of folders.

    Raises InputError if `**` is a part of a name.
    """
    try:
        return re.compile(glob_translate(pattern))
    except ValueError as error:
        raise InputError(
            f"{pattern} is not a valid pattern: ** must stand alone between slashes, as in a/**/*.mp4"
        ) from error


def _store(uri: str) -> tuple[Any, str]:
    if not is_supported(uri):
        raise UserError(f"{redact(uri)} cannot be opened; give a local path or a URL of {', '.join(SCHEMES)}")
    if is_local(uri):
        return fsspec.filesystem("file"), str(local_path(uri))
    if holds_credentials(uri):
        raise UserError(f"{redact(uri)} {NO_CREDENTIALS}")
    try:
        return _connect(uri)
    except ImportError as error:
        raise UserError(f"{uri} needs a package that is not installed: {error}") from error
    except _address_errors(uri) as error:
        raise _bad_address(uri, error) from error


def _bad_address(uri: str, error: Exception) -> InputError:
    return InputError(f"{redact(uri)} is not a valid address: {redact(str(error))}; correct it")


def _connect(uri: str) -> tuple[Any, str]:
    # Other machines write to the same folders, so a listing is never reused.
    if scheme(uri) == "gs":
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs what it raises
    # fsspec would take a key with `::` for a chain of stores.
    head = uri.partition("::")[0].rstrip("/") if "::" in uri else uri
    if scheme(uri) != "s3":
        store, path = fsspec.url_to_fs(head, use_listings_cache=False)
        return store, path + uri[len(head) :]
    from kinescribe.storage import s3

    store, path = fsspec.url_to_fs(head, use_listings_cache=False, **s3.options())
    s3.set_up(store)
    return store, path + uri[len(head) :]


def _address_errors(uri: str) -> tuple[type[Exception], ...]:
    """What the client of an object store raises for a malformed address."""
    if is_local(uri):
        return ()
    if scheme(uri) != "s3":
        return ValueError, RuntimeError
    from kinescribe.storage import s3

    return s3.ADDRESS_ERRORS


def _client_errors(uri: str) -> tuple[type[Exception], ...]:
    """What the client of an object store raises; a local disk's errors are clear as they are."""
    if is_local(uri):
        return ()
    match scheme(uri):
        case "s3":
            from kinescribe.storage import s3

            return s3.CLIENT_ERRORS
        case "hf":
            from httpx2 import HTTPError

            return OSError, HTTPError
        case "gs":
            from aiohttp import ClientError
            from gcsfs.retry import HttpError
            from google.auth.exceptions import GoogleAuthError

            return OSError, ClientError, HttpError, GoogleAuthError
        case "az" | "abfs":
            from azure.core.exceptions import AzureError  # pyright: ignore

            return OSError, AzureError
        case _:
            return (OSError,)
