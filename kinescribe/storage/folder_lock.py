"""Locks of local folders, which end with the process that holds them.

Others may write to the folder above: only a folder of this user is opened, never what a link leads to, and
nothing that could make the caller wait.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder_lock(folder: str | Path) -> Generator[int]:
    """Hold the folder's lock; yields its descriptor.

    Raises OSError if this is no folder of this user's, and BlockingIOError if another process holds the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(f"{folder} belongs to another user")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)
