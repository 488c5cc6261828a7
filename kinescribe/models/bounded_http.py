"""An HTTP client for servers that are not trusted: one deadline for a whole reply, and a limit on its size.

Imports openai, so it is imported where a request is sent.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
from openai import DefaultAsyncHttpxClient

FRAMING = ("content-encoding", "content-length", "transfer-encoding")


class BoundedClient(DefaultAsyncHttpxClient):
    """Reads each reply whole. The time limits of httpx are for each piece of a reply only.

    Packed replies are neither asked for nor unpacked, because a small one may hold gigabytes. A reply that is
    packed or longer than `max_bytes` is replaced by a text that says so.
    """

    def __init__(self, deadline_s: float, max_bytes: int) -> None:
        super().__init__(timeout=deadline_s, headers={"Accept-Encoding": "identity"})
        self._deadline_s = deadline_s
        self._max_bytes = max_bytes

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send the request and read the reply. Raises TimeoutException, and what httpx raises."""
        try:
            async with asyncio.timeout(self._deadline_s):
                response = await super().send(request, stream=True, **options)
                try:
                    content = await self._content(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            message = f"no whole reply in {self._deadline_s:g} s"
            raise httpx2.ReadTimeout(message, request=request) from None
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in FRAMING]
        return httpx2.Response(response.status_code, headers=headers, content=content, request=request)

    async def _content(self, response: httpx2.Response) -> bytes:
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            return f"the reply is packed ({encoding}), which was not asked for".encode()
        content = bytearray()
        async for piece in response.aiter_raw():
            content += piece
            if len(content) > self._max_bytes:
                return f"the reply is longer than {self._max_bytes} bytes".encode()
        return bytes(content)
