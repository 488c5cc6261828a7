"""A process for work that may crash, spin or eat memory: one request at a time, restarted when it dies.

Only bytes cross the pipes. The process starts clean (never a fork of one that holds torch or Ray), sees
no environment but what it needs, and dies with its parent. Knows nothing of videos.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import re
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from kinescribe.schemas.outcomes import RejectCode, Rejected

START_TIMEOUT_S = 120.0
MAX_MESSAGE_BYTES = 1 << 30
MAX_OPEN_FILES = 64
MAX_FILE_BYTES = 16 << 20
NEAR_LIMIT_BYTES = 64 << 20
"""As much as one frame of the largest size that is decoded by default."""
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
PR_SET_PDEATHSIG = 1
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
_LENGTH = struct.Struct("<Q")


class _Killed(Rejected):
    """By SIGKILL, which we send only after the answer is given up."""


class Sandbox:
    """Runs `command`, a program that calls `serve`, and puts requests to it.

    A request that takes longer than `deadline_s` or more than `memory_bytes`, or kills the process, is a
    `Rejected`; the next one gets a new process.
    """

    def __init__(self, command: Sequence[str], deadline_s: float, memory_bytes: int) -> None:
        self._command = command
        self._deadline_s = deadline_s
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._starter = threading.current_thread()
        self._lock = threading.Lock()
        self._is_closed = False

    def call(self, request: bytes) -> bytes:
        """The answer to a request. Raises Rejected: timeout, out_of_memory or crashed.

        A process that somebody killed may have been killed for what others did: its request is tried again.
        """
        try:
            return self._attempt(request)
        except _Killed:
            if self._is_closed:
                raise
            return self._attempt(request)

    def _attempt(self, request: bytes) -> bytes:
        with self._lock, contextlib.ExitStack() as unless_answered:
            process = self._running()
            # Also after Ctrl-C: a late answer must not become that of the next request.
            unless_answered.callback(self._end)
            try:
                reply = _exchange(process, request, self._deadline_s)
            except TimeoutError:
                raise Rejected(RejectCode.TIMEOUT, f"longer than {self._deadline_s:g} s") from None
            except OSError:
                raise self._obituary(process) from None
            unless_answered.pop_all()
            return reply

    def close(self) -> None:
        """End the process, also while another thread waits for its answer; a later call starts another."""
        self._is_closed = True
        if process := self._process:
            process.kill()
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _running(self) -> subprocess.Popen[bytes]:
        # The kernel kills the process when the thread that started it ends, not only its whole parent.
        if self._process is None or self._process.poll() is not None or not self._starter.is_alive():
            self._end()
            self._start()
        assert self._process is not None
        return self._process

    def _start(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._starter = threading.current_thread()
        self._is_closed = False
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=_environment(),
            # Ctrl-C in a terminal is for the parent, which then ends this process.
            start_new_session=True,
        )
        limits = json.dumps({"deadline_s": self._deadline_s, "memory_bytes": self._memory_bytes})
        try:
            _exchange(self._process, limits.encode(), START_TIMEOUT_S)
        except OSError as error:
            died = self._obituary(self._process)
            self._end()
            if isinstance(died, _Killed):
                raise died from None
            raise RuntimeError(f"{' '.join(self._command)} does not start: {died.message}") from error

    def _obituary(self, process: subprocess.Popen[bytes]) -> Rejected:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        status, last = process.returncode, self._last_words()
        if status == -signal.SIGKILL:
            return _Killed(RejectCode.OUT_OF_MEMORY, "killed by the system, as when memory runs out")
        if "bad_alloc" in last:
            return Rejected(RejectCode.OUT_OF_MEMORY, last)
        how = f"exit status {status}" if status is None or status >= 0 else signal.Signals(-status).name
        return Rejected(RejectCode.CRASHED, f"{how}: {last}" if last else how)

    def _last_words(self) -> str:
        assert self._stderr is not None
        end = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, end - 4096))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else ""


def serve(answer: Callable[[bytes], bytes]) -> None:
    """Answer requests until the parent closes the pipe; what an answer raises ends the process."""
    _leave_network()
    _die_with_parent()
    requests, replies = os.dup(0), os.dup(1)
    # What a decoder reads from or prints to these must not mix with the messages.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    limits = json.loads(_receive(requests, None))
    _limit(limits["memory_bytes"])
    _send(replies, b"")
    while True:
        try:
            request = _receive(requests, None)
        except ConnectionError:
            return
        _limit_processor(limits["deadline_s"])
        _send(replies, answer(request))


def memory_is_exhausted() -> bool:
    """Whether this process came so near its limit that what failed in it may have failed for want of memory.

    Decoders report a failed allocation as damaged data.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform != "linux" or limit == resource.RLIM_INFINITY:
        return False
    peak = re.search(r"VmPeak:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    return limit - 1024 * int(peak[1]) < NEAR_LIMIT_BYTES


def _exchange(process: subprocess.Popen[bytes], message: bytes, timeout_s: float) -> bytes:
    """Raises TimeoutError, or another OSError where the process died or talks nonsense."""
    assert process.stdin is not None
    assert process.stdout is not None
    _send(process.stdin.fileno(), message)
    return _receive(process.stdout.fileno(), time.monotonic() + timeout_s)


def _send(descriptor: int, message: bytes) -> None:
    rest = memoryview(_LENGTH.pack(len(message)) + message)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _receive(descriptor: int, until: float | None) -> bytes:
    (size,) = _LENGTH.unpack(_read(descriptor, _LENGTH.size, until))
    if size > MAX_MESSAGE_BYTES:
        raise ConnectionError(f"a message of {size} bytes")
    return _read(descriptor, size, until)


def _read(descriptor: int, size: int, until: float | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        left = None if until is None else max(0.0, until - time.monotonic())
        if not select.select([descriptor], [], [], left)[0]:
            raise TimeoutError
        some = os.read(descriptor, min(size - len(data), 1 << 20))
        if not some:
            raise ConnectionError("the other end is closed")
        data += some
    return bytes(data)


def _environment() -> dict[str, str]:
    """What finding Python and its packages takes; no keys of stores, and one thread for numpy."""
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    path = os.pathsep.join(str(Path(entry or ".").absolute()) for entry in sys.path)
    return {**kept, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}


def _leave_network() -> None:
    """Move to a network without a way out, where the kernel allows that: to root, or in a user namespace."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if libc.unshare(CLONE_NEWNET) != 0:
            libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit(memory_bytes: int) -> None:
    """No core dumps, few and small files, no process or thread more (root may still start some), and memory
    beyond what the interpreter takes already.
    """
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _limit_processor(deadline_s: float) -> None:
    """A process whose parent could not end it ends itself, though its decoder spins for ever."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    seconds = math.ceil(used.ru_utime + used.ru_stime + 2 * deadline_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
