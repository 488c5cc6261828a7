"""Checks before decoding: whether a clip is a regular file, and within the limits."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

from kinescribe.media.decode import Header
from kinescribe.schemas.config import DecodeLimits
from kinescribe.schemas.outcomes import RejectCode, Rejected


def check_file(path: Path) -> None:
    """Raises Rejected if this isn't a regular file with content: opening a pipe would wait for ever."""
    try:
        status = path.stat()
    except ValueError as error:  # a zero byte in its name
        raise Rejected(RejectCode.MISSING, "no such file") from error
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise Rejected(RejectCode.MISSING, "no such file") from error
        raise Rejected(RejectCode.UNREADABLE, str(error.strerror)) from error
    if not stat.S_ISREG(status.st_mode):
        raise Rejected(RejectCode.UNREADABLE, "a folder, pipe or device, not a file")
    if status.st_size == 0:
        raise Rejected(RejectCode.UNREADABLE, "an empty file")


def check_header(header: Header, limits: DecodeLimits, start_s: float | None, end_s: float | None) -> None:
    """Raises Rejected if decoding the window [start_s, end_s) would exceed the limits."""
    check_pixels(header.width, header.height, limits)
    ends = [end for end in (end_s, header.duration_s) if end is not None]
    if ends:
        check_duration(min(ends) - (start_s or 0.0), limits)


def check_pixels(width: int, height: int, limits: DecodeLimits) -> None:
    """Raises Rejected if a frame has too many pixels."""
    if width * height > limits.max_pixels:
        raise Rejected(
            RejectCode.TOO_LARGE,
            f"{width}x{height} pixels; limits.max_pixels is {limits.max_pixels}",
        )


def check_duration(duration_s: float, limits: DecodeLimits) -> None:
    """Raises Rejected if the clip is too long."""
    if duration_s > limits.max_duration_s:
        raise Rejected(
            RejectCode.TOO_LARGE,
            f"{duration_s:.0f} s; limits.max_duration_s is {limits.max_duration_s:.0f}",
        )
