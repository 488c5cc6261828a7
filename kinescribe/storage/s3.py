"""How the S3 client is configured: timeouts, retries, redirects, errors and the parsing of dates.

The only importer of s3fs and of the AWS client below it.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from aiohttp import ClientError
from botocore.exceptions import BotoCoreError, ParamValidationError
from botocore.utils import parse_timestamp
from s3fs import S3FileSystem
from s3fs.core import set_custom_error_handler

CLIENT = {
    "connect_timeout": 10,
    "read_timeout": 30,
    # Half a minute of growing waits outlasts most outages and throttling.
    "retries": {"mode": "standard", "total_max_attempts": 8},
}
CLIENT_ERRORS = OSError, BotoCoreError, ClientError
"""Raised after the last attempt."""
ADDRESS_ERRORS = ValueError, ParamValidationError
"""Raised for a malformed address."""


class _Direct:
    """An HTTP session that follows no redirect."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def request(self, *arguments: Any, **options: Any) -> Any:
        return self._session.request(*arguments, allow_redirects=False, **options)


class DirectHttp(AIOHTTPSession):
    """The AWS client's HTTP, which would follow a store's redirect to any host and port."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        return _Direct(await super()._get_session(proxy_url))


def options() -> dict[str, Any]:
    """The arguments of the file system."""
    set_custom_error_handler(_is_conflict)
    return {"config_kwargs": {**CLIENT, "http_session_cls": DirectHttp}}


def set_up(store: S3FileSystem) -> None:
    """Give the file system, before its first request, a session with a fast parser of dates.

    A listing has a date for each object; guessing the format of each takes the AWS client more than half of
    the listing's time.
    """
    if store.session is None:
        store.session = AioSession(**store.kwargs)
        store.session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_date)


def _is_conflict(error: Exception) -> bool:
    """Whether to try again because another writer was creating the same object at this moment."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return response.get("Error", {}).get("Code") == "ConditionalRequestConflict"


def _date(value: str | float) -> datetime:
    if isinstance(value, str) and "T" in value:
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    return parse_timestamp(value)
