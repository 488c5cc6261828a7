"""Runs work that may crash, spin or eat memory in a child process, which is restarted when it dies.

Only bytes cross between the two: nothing of the child is unpickled. The child starts clean (never a fork of
a process that holds torch or Ray), sees only the environment variables that it needs, and dies with its
parent. Knows nothing of videos.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import IO, Any, NamedTuple

from kinescribe.schemas.outcomes import RejectCode, Rejected

START_TIMEOUT_S = 120.0
MAX_MESSAGE_BYTES = 1 << 30
MAX_OPEN_FILES = 64
MAX_FILE_BYTES = 16 << 20
NEAR_LIMIT_BYTES = 64 << 20
"""One frame of the largest size that is decoded by default."""
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
PR_SET_PDEATHSIG = 1
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


class _Killed(Rejected):
    """The child died of a SIGKILL. We send one only after giving up on its answer, so somebody else did."""


class _Child(NamedTuple):
    """The child process, our end of the socket to it, and the file that holds its stderr."""

    process: subprocess.Popen[bytes]
    connection: Connection[Any, Any]
    stderr: IO[bytes]


class Sandbox:
    """Runs `command`, a program that calls `serve`, and sends it requests.

    A request that takes longer than `deadline_s`, needs more than `memory_bytes` or kills the child raises
    `Rejected`; the next request gets a new child.
    """

    def __init__(self, command: Sequence[str], deadline_s: float, memory_bytes: int) -> None:
        self._command = command
        self._deadline_s = deadline_s
        self._memory_bytes = memory_bytes
        self._child: _Child | None = None
        self._starter = threading.current_thread()
        self._lock = threading.Lock()
        self._is_closed = False

    def call(self, request: bytes) -> bytes:
        """The answer to a request. Raises Rejected: timeout, out_of_memory or crashed.

        If something else killed the child, another process may have used up the memory: the request is
        tried a second time.
        """
        try:
            return self._attempt(request)
        except _Killed:
            if self._is_closed:
                raise
            return self._attempt(request)

    def _attempt(self, request: bytes) -> bytes:
        with self._lock, contextlib.ExitStack() as on_failure:
            child = self._running_child()
            # Also after Ctrl-C: the next request must not get a late answer to this one.
            on_failure.callback(self._end)
            try:
                reply = _exchange(child.connection, request, self._deadline_s)
            except TimeoutError:
                raise Rejected(RejectCode.TIMEOUT, f"longer than {self._deadline_s:g} s") from None
            except (OSError, EOFError):
                raise _cause_of_death(child) from None
            on_failure.pop_all()
            return reply

    def close(self) -> None:
        """End the child, also while another thread waits for an answer; a later call starts another."""
        self._is_closed = True
        if child := self._child:
            child.process.kill()
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._child is not None:
            self._child.process.kill()
            self._child.process.wait()
            self._child.connection.close()
            self._child.stderr.close()
            self._child = None

    def _running_child(self) -> _Child:
        # The kernel kills the child when the thread that started it ends, not only when the parent does.
        if self._child is None or self._child.process.poll() is not None or not self._starter.is_alive():
            self._end()
            self._child = self._start()
        return self._child

    def _start(self) -> _Child:
        self._starter = threading.current_thread()
        self._is_closed = False
        connection, theirs = Pipe()
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        process = subprocess.Popen(
            self._command,
            stdin=theirs.fileno(),
            stdout=stderr,
            stderr=stderr,
            env=_environment(),
            # Ctrl-C in a terminal is for the parent, which then ends the child.
            start_new_session=True,
        )
        theirs.close()
        self._child = child = _Child(process, connection, stderr)
        limits = json.dumps({"deadline_s": self._deadline_s, "memory_bytes": self._memory_bytes})
        try:
            _exchange(connection, limits.encode(), START_TIMEOUT_S)
        except (OSError, EOFError) as error:
            death = _cause_of_death(child)
            self._end()
            if isinstance(death, _Killed):
                raise death from None
            raise RuntimeError(f"{' '.join(self._command)} does not start: {death.message}") from error
        return child


def _exchange(connection: Connection[Any, Any], message: bytes, timeout_s: float) -> bytes:
    """The answer to a message. Raises TimeoutError; EOFError or OSError if the child died or sent garbage."""
    with _disconnected_after(connection, timeout_s):
        connection.send_bytes(message)
        return connection.recv_bytes(MAX_MESSAGE_BYTES)


@contextlib.contextmanager
def _disconnected_after(connection: Connection[Any, Any], timeout_s: float) -> Generator[None]:
    """One deadline for all that is sent and received in the block. Raises TimeoutError when it passes.

    Shutting the socket down ends a blocked read or write even if a process that the child started keeps
    the other end open.
    """
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        with socket.socket(fileno=os.dup(connection.fileno())) as end, contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, EOFError):
        if not expired.is_set():
            raise
    finally:
        timer.cancel()
        timer.join()
    if expired.is_set():
        raise TimeoutError


def _cause_of_death(child: _Child) -> Rejected:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(5)
    status, last_line = child.process.returncode, _last_line(child.stderr)
    if status is None:
        return Rejected(RejectCode.CRASHED, "it sent a malformed message")
    if status == -signal.SIGKILL:
        return _Killed(RejectCode.OUT_OF_MEMORY, "killed by the system, as when memory runs out")
    if "bad_alloc" in last_line:
        return Rejected(RejectCode.OUT_OF_MEMORY, last_line)
    cause = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
    return Rejected(RejectCode.CRASHED, f"{cause}: {last_line}" if last_line else cause)


def _last_line(stderr: IO[bytes]) -> str:
    end = stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, end - 4096))
    lines = stderr.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:500] if lines else ""


def serve(answer: Callable[[bytes], bytes], *, may_start_threads: bool = False) -> None:
    """Answer requests until the parent closes the socket; an exception in `answer` ends the process.

    With `may_start_threads`, the number of processes isn't limited: to the kernel, threads are processes.
    """
    _leave_network()
    _die_with_parent()
    # Standard input is the socket: a decoder that reads from it must not take our messages.
    connection: Connection[Any, Any] = Connection(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    limits = json.loads(connection.recv_bytes())
    _limit(limits["memory_bytes"])
    if not may_start_threads:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    connection.send_bytes(b"")
    while True:
        try:
            request = connection.recv_bytes()
        except (EOFError, ConnectionError):
            return
        _limit_processor(limits["deadline_s"])
        connection.send_bytes(answer(request))


def memory_is_exhausted() -> bool:
    """Whether this process came close to its memory limit.

    Decoders report a failed allocation as damaged data, so a failure near the limit may be a lack of memory.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform != "linux" or limit == resource.RLIM_INFINITY:
        return False
    peak = re.search(r"VmPeak:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    return limit - 1024 * int(peak[1]) < NEAR_LIMIT_BYTES


def _environment() -> dict[str, str]:
    """The variables with which Python finds its packages; no keys of stores, and one thread for numpy."""
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    path = os.pathsep.join(str(Path(entry or ".").absolute()) for entry in sys.path)
    return {**kept, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}


def _leave_network() -> None:
    """Move to a network namespace without a way out, if the kernel allows root or this user to make one."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if libc.unshare(CLONE_NEWNET) != 0:
            libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit(memory_bytes: int) -> None:
    """Forbid core dumps, more than a few small files, and more memory than `memory_bytes` beyond what the
    interpreter uses already.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _limit_processor(deadline_s: float) -> None:
    """Have the kernel end a decoder that spins for ever even if the parent can't."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    seconds = math.ceil(used.ru_utime + used.ru_stime + 2 * deadline_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
