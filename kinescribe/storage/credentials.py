"""Passwords and signatures in URLs: they are refused as input and removed from messages."""

from __future__ import annotations

import re

NO_CREDENTIALS = "must not contain a password or a signature; set the store's environment variables instead"
CREDENTIALS = (
    r"(?i)://[^/@]*:[^/@]*@|://[^/@:]*:\d*[^/@\d][^@]*@|https?://[^/]*@"
    r"|://.*[?&][^=&]*(sig|token|key|secret|password|credential)[^=&]*="
)
"""Matches a URL with a password or a signature, in Python's and in Rust's regular expressions.

A key of S3 may have slashes. What has only digits up to its first slash is a port.
"""
SECRETS = re.compile(
    r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)|(?<=://)[^/@:\s]*:\d*[^/@\d\s][^@\s]*(?=@)"
    r"|(?<=http://)[^/@\s]+(?=@)|(?<=https://)[^/@\s]+(?=@)|(?<=[?&])[^?&#\s]+"
)


def holds_credentials(uri: str) -> bool:
    """Whether the URL contains a password or a signature, which would be written wherever the URL is."""
    return re.search(CREDENTIALS, uri) is not None


def redact(text: str) -> str:
    """The text without the passwords and signatures in its URLs."""
    return SECRETS.sub("***", text) if "://" in text else text
