"""Real processes that hang, crash, print and use up memory."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from kinescribe.media.sandbox import Sandbox
from kinescribe.schemas.outcomes import RejectCode, Rejected

PROGRAM = """
import ctypes, os, resource, signal, socket, sys, tempfile, time
from kinescribe.media.sandbox import serve

def spin():  # as decord's get_batch does: for ever, and holding the interpreter's lock
    ctypes.PyDLL(None).pause()

def answer(request):
    name, _, rest = request.partition(b" ")
    if name == b"hang":
        spin()
    if name == b"crash":
        ctypes.string_at(0)
    if name == b"kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == b"kill_once" and not os.path.exists(rest):
        open(rest, "wb").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if name == b"raise":
        raise ValueError("bad luck")
    if name == b"eat":
        try:
            return str(len(bytearray(2 << 30))).encode()
        except MemoryError:
            return b"too much"
    if name == b"print":
        print("chatter"); os.write(1, b"chatter"); sys.stdin.read()
    if name == b"environment":
        return " ".join(sorted(os.environ)).encode()
    if name == b"limits":
        kinds = (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC)
        return str([resource.getrlimit(kind)[0] for kind in kinds]).encode()
    if name == b"processor":
        return str(resource.getrlimit(resource.RLIMIT_CPU)[0]).encode()
    if name == b"connect":
        try:
            socket.create_connection(("127.0.0.1", int(rest)), timeout=5).close()
        except OSError as error:
            return type(error).__name__.encode()
        return b"connected"
    if name == b"write":  # SIGXFSZ is ignored by Python
        try:
            with tempfile.TemporaryFile() as file:
                file.write(bytes(64 << 20))
        except OSError as error:
            return error.strerror.encode()
        return b"written"
    if name == b"fork":
        try:
            os.fork() or os._exit(0)
        except OSError as error:
            return error.strerror.encode()
        return b"forked"
    if name == b"open":
        try:
            files = [open("/dev/null") for _ in range(99)]
        except OSError as error:
            return error.strerror.encode()
        return b"opened"
    if name == b"pid":
        return str(os.getpid()).encode()
    return rest

serve(answer)
"""


STARTED = """
import os, sys, time
from multiprocessing.connection import Connection
parent = Connection(os.dup(0))
parent.recv_bytes()
parent.send_bytes(b"")
"""
"""A child that was taken over after it started; what it does then is appended."""
MISBEHAVIOURS = {
    "never reads": "time.sleep(600)",
    "sends half a message": "os.write(parent.fileno(), b'\\0\\0\\0\\x09half'); time.sleep(600)",
    "sends byte after byte": """
os.write(parent.fileno(), b'\\0\\x10\\0\\0')
while True:
    os.write(parent.fileno(), b'x'); time.sleep(0.01)
""",
    "leaves the socket to a child": "os.fork() and os._exit(0); time.sleep(20)",
}


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return [sys.executable, str(program)]


@pytest.fixture
def sandbox(command: list[str]) -> Iterator[Sandbox]:
    one = Sandbox(command, deadline_s=30.0, memory_bytes=1 << 30)
    yield one
    one.close()


def reject_of(sandbox: Sandbox, request: bytes) -> Rejected:
    with pytest.raises(Rejected) as caught:
        sandbox.call(request)
    return caught.value


def is_gone(pid: int) -> bool:
    """Whether the process doesn't run any longer; a zombie doesn't."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_bytes_of_any_length_come_back(sandbox: Sandbox):
    for size in (0, 1, 3_000_000):
        assert sandbox.call(b"echo " + b"\x00" * size) == b"\x00" * size


def test_one_process_serves_many_requests(sandbox: Sandbox):
    assert sandbox.call(b"pid") == sandbox.call(b"pid")


def test_a_child_that_hangs_is_ended_at_the_deadline_and_replaced(command: list[str]):
    sandbox = Sandbox(command, deadline_s=0.5, memory_bytes=1 << 30)
    pid = int(sandbox.call(b"pid"))
    began = time.monotonic()
    assert reject_of(sandbox, b"hang").code == RejectCode.TIMEOUT
    assert time.monotonic() - began < 20
    assert is_gone(pid)
    assert sandbox.call(b"echo next") == b"next"
    sandbox.close()


@pytest.mark.parametrize("misbehaviour", MISBEHAVIOURS)
def test_one_deadline_covers_the_request_and_the_reply(tmp_path: Path, misbehaviour: str):
    program = tmp_path / "taken_over.py"
    program.write_text(STARTED + MISBEHAVIOURS[misbehaviour])
    sandbox = Sandbox([sys.executable, str(program)], deadline_s=0.5, memory_bytes=1 << 30)
    began = time.monotonic()
    larger_than_the_socket_buffers = bytes(16 << 20 if misbehaviour == "never reads" else 1)
    assert reject_of(sandbox, larger_than_the_socket_buffers).code == RejectCode.TIMEOUT
    assert time.monotonic() - began < 15
    sandbox.close()


def test_a_reply_of_an_absurd_length_is_not_read(tmp_path: Path):
    program = tmp_path / "taken_over.py"
    program.write_text(
        STARTED + "parent.recv_bytes(); os.write(parent.fileno(), b'\\x7f\\xff\\xff\\xff'); time.sleep(600)"
    )
    sandbox = Sandbox([sys.executable, str(program)], deadline_s=30.0, memory_bytes=1 << 30)
    rejected = reject_of(sandbox, b"x")
    assert (rejected.code, rejected.message) == (RejectCode.CRASHED, "it sent a malformed message")
    sandbox.close()


def test_another_thread_can_close_it_during_a_request(sandbox: Sandbox):
    with ThreadPoolExecutor() as threads:
        for _ in range(20):
            pid = int(sandbox.call(b"pid"))
            waits = threads.submit(sandbox.call, b"hang")
            while not sandbox._lock.locked():
                time.sleep(0.001)
            closed = [threads.submit(sandbox.close) for _ in range(3)]
            assert [one.result(20) for one in closed] == [None] * 3
            assert is_gone(pid)
            assert isinstance(waits.exception(20), Rejected)


def test_a_crash_is_reported_with_its_signal_and_the_child_is_replaced(sandbox: Sandbox):
    rejected = reject_of(sandbox, b"crash")
    assert rejected.code == RejectCode.CRASHED
    assert "SIGSEGV" in rejected.message
    assert sandbox.call(b"echo next") == b"next"


def test_an_exception_is_reported_with_its_message(sandbox: Sandbox):
    rejected = reject_of(sandbox, b"raise")
    assert (rejected.code, rejected.message) == (RejectCode.CRASHED, "exit status 1: ValueError: bad luck")


def test_a_child_that_was_killed_was_out_of_memory(sandbox: Sandbox):
    assert reject_of(sandbox, b"kill").code == RejectCode.OUT_OF_MEMORY


def test_memory_is_limited(sandbox: Sandbox):
    assert sandbox.call(b"eat") == b"too much"


def test_output_of_a_decoder_is_not_a_message(sandbox: Sandbox):
    assert sandbox.call(b"print and answer") == b"and answer"


def test_the_process_sees_no_keys(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert b"AWS_SECRET_ACCESS_KEY" not in sandbox.call(b"environment").split()


def test_core_dumps_and_many_or_large_files_are_forbidden(sandbox: Sandbox):
    assert sandbox.call(b"limits") == b"[0, 64, 16777216, 0]"
    assert sandbox.call(b"open") == b"Too many open files"
    assert sandbox.call(b"write") == b"File too large"


def test_the_kernel_ends_a_process_whose_parent_cannot(sandbox: Sandbox):
    assert 60 < int(sandbox.call(b"processor")) < 120


def test_no_process_can_be_started(sandbox: Sandbox):
    if os.geteuid() == 0:
        pytest.skip("root may have any number of processes")
    assert sandbox.call(b"fork") == b"Resource temporarily unavailable"


def test_threads_can_be_started_only_if_they_are_allowed(command: list[str]):
    program = Path(command[1])
    program.write_text(program.read_text().replace("serve(answer)", "serve(answer, may_start_threads=True)"))
    with closing(Sandbox(command, deadline_s=30.0, memory_bytes=1 << 30)) as sandbox:
        assert sandbox.call(b"limits") != b"[0, 64, 16777216, 0]"
        assert sandbox.call(b"limits").startswith(b"[0, 64, 16777216, ")


def test_no_network_is_reached_if_the_kernel_allows_namespaces(sandbox: Sandbox):
    separate = subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0
    as_user = subprocess.run(["unshare", "--user", "--net", "true"], capture_output=True).returncode == 0
    if not (separate or as_user):
        pytest.skip("this kernel gives no network of its own")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        assert sandbox.call(f"connect {port}".encode()) != b"connected"


def test_a_request_whose_process_was_killed_is_tried_again(sandbox: Sandbox, tmp_path: Path):
    marker = bytes(tmp_path / "killed")
    assert sandbox.call(b"kill_once " + marker) == marker
    assert (tmp_path / "killed").exists()


def test_a_process_that_died_between_requests_is_replaced(sandbox: Sandbox):
    os.kill(int(sandbox.call(b"pid")), signal.SIGKILL)
    time.sleep(0.2)
    assert sandbox.call(b"echo next") == b"next"


def test_a_program_that_cannot_start_is_a_bug_and_rejects_no_clip():
    with pytest.raises(RuntimeError, match=r"does not start: .*no_such_module"):
        Sandbox([sys.executable, "-m", "no_such_module"], 1.0, 1 << 30).call(b"")


def test_a_process_that_was_killed_while_it_started_is_replaced(command: list[str], tmp_path: Path):
    marker = tmp_path / "killed"
    program = PROGRAM.replace(
        "serve(answer)", "answer(b'kill_once ' + os.fsencode(sys.argv[1]))\nserve(answer)"
    )
    Path(command[1]).write_text(program)
    sandbox = Sandbox([*command, str(marker)], 30.0, 1 << 30)
    assert sandbox.call(b"echo next") == b"next"
    assert marker.exists()
    sandbox.close()


def test_closing_ends_the_process(command: list[str]):
    sandbox = Sandbox(command, 30.0, 1 << 30)
    pid = int(sandbox.call(b"pid"))
    sandbox.close()
    sandbox.close()
    assert is_gone(pid)


def test_the_process_dies_with_its_parent(command: list[str]):
    parent = f"""
import os, threading, time
from kinescribe.media.sandbox import Sandbox
sandbox = Sandbox({command!r}, 600.0, 1 << 30)
print(sandbox.call(b"pid").decode(), flush=True)
threading.Timer(1.0, os._exit, [0]).start()
sandbox.call(b"hang")
"""
    run = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert is_gone(int(run.stdout))
