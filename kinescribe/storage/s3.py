"""How S3's client is set up: what it waits for, what it tries again, what it raises, how it reads dates.

The only door to s3fs and to the AWS client below it; what is done with the store is `storage/uri.py`'s.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

from aiobotocore.session import AioSession
from aiohttp import ClientError
from botocore.exceptions import BotoCoreError, ParamValidationError
from botocore.utils import parse_timestamp
from s3fs import S3FileSystem
from s3fs.core import set_custom_error_handler

CLIENT = {
    "connect_timeout": 10,
    "read_timeout": 30,
    # Half a minute of growing waits, which is what most outages and throttling take.
    "retries": {"mode": "standard", "total_max_attempts": 8},
}
CLIENT_ERRORS = OSError, BotoCoreError, ClientError
"""What is raised after all tries."""
ADDRESS_ERRORS = ValueError, ParamValidationError
"""What is raised of an address that cannot be one of S3's."""


def options() -> dict[str, Any]:
    """What the file system is made with."""
    set_custom_error_handler(_is_conflict)
    return {"config_kwargs": CLIENT}


def set_up(store: S3FileSystem) -> None:
    """Give the file system, before its first request, a session that reads dates fast.

    A listing has a date for every object, and the AWS client guesses the format of each, for more than half
    of a listing's time.
    """
    if store.session is None:
        store.session = AioSession(**store.kwargs)
        store.session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_date)


def _is_conflict(error: Exception) -> bool:
    """Whether S3 asks for another try, as a rival was writing the same object at this moment."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return response.get("Error", {}).get("Code") == "ConditionalRequestConflict"


def _date(value: str | float) -> datetime:
    if isinstance(value, str) and "T" in value:
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    return parse_timestamp(value)
