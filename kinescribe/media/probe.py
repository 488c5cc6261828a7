"""Checks of what is decoded: whether a clip is a regular file, where it was opened, and its limits."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from pathlib import Path

from kinescribe.media.decode import Header
from kinescribe.schemas.config import DecodeLimits
from kinescribe.schemas.outcomes import RejectCode, Rejected

STDERR = 2


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


def opened_files() -> tuple[str, ...]:
    """The paths of the files that this process has open, besides its standard streams, with no link in them.

    Unlike the path by which a file was opened, the path of an open file can't be made to mean another.
    Empty where there is no Linux.
    """
    if sys.platform != "linux":
        return ()
    found: list[str] = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            if int(link.name) > STDERR and stat.S_ISREG(link.stat().st_mode):
                name = os.fsencode(link.readlink()).decode(errors="replace")
                found.append(name.removesuffix(" (deleted)"))
    return tuple(found)


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
