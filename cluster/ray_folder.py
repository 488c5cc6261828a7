"""The folder of a Ray of our own, and the processes that run in it: both are gone at its end.

Others may write to the folder above. Knows neither clusters nor tokens.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import ray

from kinescribe.schemas.errors import ConfigError
from kinescribe.storage.folder_lock import folder_lock

FOLDER = "kinescribe."
"""The prefix of the folders of our own Rays."""
RAY_FOLDER = "r"
"""The only entry of such a folder; a Unix socket's path has no room for a longer name."""
LONGEST_SOCKET_FOLDER = 40
"""A Unix socket's path has at most 107 bytes, of which Ray's own part takes up to 66."""
EXIT_TIMEOUT_S = 10.0
POLL_S = 0.02


@contextmanager
def ray_folder() -> Generator[str]:
    """A folder that is removed at the end. Folders that killed runs have left are removed at the start.

    A lock that dies with its process tells them apart; it is taken before the folder gets its final name.
    """
    parent = _socket_folder()
    for leftover in Path(parent).glob(f"{FOLDER}????????"):
        with suppress(OSError), folder_lock(leftover) as opened:  # a live run holds it, or it isn't ours
            if os.listdir(opened) == [RAY_FOLDER]:  # else it is a user's folder  # noqa: PTH208
                shutil.rmtree(RAY_FOLDER, ignore_errors=True, dir_fd=opened)
                leftover.rmdir()
    unnamed = tempfile.mkdtemp(prefix=".ks-", dir=parent)
    folder = f"{parent}/{FOLDER}{unnamed[-8:]}"
    with folder_lock(unnamed):
        Path(unnamed).rename(folder)
        try:
            yield folder
        finally:
            with uninterrupted():
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def processes_killed(folder: str) -> Generator[None]:
    """None of the processes of the Ray in this folder is left at the end.

    They are killed, because a worker that ends by itself takes seconds or deadlocks, and what is committed is
    safe at any moment.
    """
    try:
        yield
    finally:
        with uninterrupted():
            started = _processes_in(folder)
            # Ray ends its helpers in turn, and waits up to a second for each.
            _kill(process for process in started if _is_helper(process))
            ray.shutdown()
            _kill(started)
            deadline = time.monotonic() + EXIT_TIMEOUT_S
            while any(map(_is_alive, started)) and time.monotonic() < deadline:
                time.sleep(POLL_S)


def run_in_lasting_thread(function: Callable[[], object]) -> None:
    """Run it in a thread that never ends: Ray's processes are killed with the thread that started them."""
    if threading.current_thread() is threading.main_thread():
        function()
        return
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def run() -> None:
        function()

    asyncio.run_coroutine_threadsafe(run(), loop).result()


@contextmanager
def uninterrupted() -> Generator[None]:
    """A second Ctrl-C would leave processes and folders behind, which take seconds to end and remove."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _is_helper(process: psutil.Process) -> bool:
    """Whether it is a process that this one started, besides Ray's two servers in C++: no worker."""
    with suppress(psutil.NoSuchProcess):
        return process.ppid() == os.getpid() and process.name().startswith("python")
    return False


def _is_alive(process: psutil.Process) -> bool:
    """Whether it has not exited; a container's first process may take seconds to collect those that have."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def _processes_in(folder: str) -> list[psutil.Process]:
    """This process's children with that folder in their command line, and all their descendants."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if folder in " ".join(child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found


def _socket_folder() -> str:
    """The folder for our own. Raises ConfigError if other users could replace what is in it."""
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(folder) + len(f"/{FOLDER}xxxxxxxx/{RAY_FOLDER}") > LONGEST_SOCKET_FOLDER:
        folder = "/tmp"
    mode = Path(folder).stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise ConfigError(
            f"every user can replace files in {folder}, so Ray cannot start there; run "
            f"`chmod +t {folder}`, or set RAY_TMPDIR to a folder of your own"
        )
    return folder
