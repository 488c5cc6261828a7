"""Limits for a hub that isn't trusted, in the HTTP client of the hub's library.

The library names files of its cache by headers of the hub, and reads replies of any size. Here a header that
isn't a name is refused, and so are a file without a length, a packed reply and a listing without an end.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils import _http as library  # pyright: ignore[reportPrivateUsage]

from kinescribe.schemas.errors import ModelError

NAMES = ("ETag", "X-Linked-ETag", "X-Repo-Commit")
"""The headers by which the library names files and folders."""
API = "/api/"
"""The paths of replies that aren't files. A hub sends files from its own host or from another."""
NAME = re.compile(r'(W/)?"?[\w-]{1,128}"?', re.ASCII)
MAX_LISTING_BYTES = 64 << 20
"""Of all replies but files; the longest listings have a few megabytes."""
MAX_REPLIES = 10_000
LISTING_S = 60.0
"""For one reply that isn't a file. A library's limits are for each piece."""

_one_at_a_time = threading.Lock()


@contextmanager
def limited_hub() -> Generator[None]:
    """The library uses a client with limits while the block runs."""
    with _one_at_a_time:
        usual = library._GLOBAL_CLIENT_FACTORY  # pyright: ignore[reportPrivateUsage]
        telemetry_off = constants.HF_HUB_DISABLE_TELEMETRY
        limits = _Limits()
        set_client_factory(lambda: limits.on(usual()))
        # For its telemetry, the library asks the hub which environment variables to look at.
        constants.HF_HUB_DISABLE_TELEMETRY = True  # pyright: ignore[reportConstantRedefinition]
        try:
            yield
        finally:
            constants.HF_HUB_DISABLE_TELEMETRY = telemetry_off  # pyright: ignore[reportConstantRedefinition]
            set_client_factory(usual)


class _Limits:
    """What a hub may still send."""

    def __init__(self) -> None:
        self.bytes_left = MAX_LISTING_BYTES
        self.replies_left = MAX_REPLIES

    def on(self, client: httpx2.Client) -> httpx2.Client:
        """The client, which looks at each reply before it reads it."""
        client.headers["Accept-Encoding"] = "identity"
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "response": [*hooks.get("response", ()), self.check]}
        return client

    def check(self, response: httpx2.Response) -> None:
        """Raise ModelError if a header is no name, or the body has no limit."""
        headers = response.headers
        for header in NAMES:
            if header in headers and not NAME.fullmatch(headers[header]):
                raise ModelError(f"the hub sent {headers[header]!r:.80} as {header}, which isn't a name")
        if headers.get("Content-Encoding", "identity") != "identity":
            raise ModelError("the hub sent a packed reply, which was not asked for")
        is_file = not response.request.url.path.startswith(API)
        if is_file and response.is_success and "Content-Length" not in headers:
            raise ModelError("the hub sent a file without its length")
        if not is_file:
            self.replies_left -= 1
            response.stream = _Listing(response.stream, self)

    def take(self, size_bytes: int, until: float) -> None:
        """Raise ModelError if a listing is too long."""
        self.bytes_left -= size_bytes
        if self.bytes_left < 0 or self.replies_left < 0 or time.monotonic() > until:
            raise ModelError(f"the hub's listing is longer than {MAX_LISTING_BYTES} bytes or {LISTING_S:g} s")


class _Listing(httpx2.SyncByteStream):
    """The body of a reply that isn't a file."""

    def __init__(self, stream: Any, limits: _Limits) -> None:
        self._stream = stream
        self._limits = limits

    def __iter__(self) -> Iterator[bytes]:
        until = time.monotonic() + LISTING_S
        self._limits.take(0, until)
        for piece in self._stream:
            self._limits.take(len(piece), until)
            yield piece

    def close(self) -> None:
        self._stream.close()
