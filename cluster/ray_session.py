"""Ray for a process: the cluster that RAY_ADDRESS names, or one of our own on this machine.

Our own is started by the first run that needs it and serves all later runs of the process. Knows nothing of
what runs on it. Ends only what it started.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import signal
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.exceptions import AuthenticationError, RpcError

from kinescribe.cluster.resources import ClusterResources, card_bytes
from kinescribe.schemas.errors import ConfigError
from kinescribe.storage.folder_lock import folder_lock

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": "kinescribe"}
DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray starts its workers with niceness 15, and they starve beside anything else on the machine.
    "RAY_worker_niceness": "0",
    # Ray's C++ half bypasses Python's loggers and writes to stderr in the middle of the progress.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
OOM_RETRIES = "RAY_task_oom_retries", "8"
"""How often Ray repeats a task of its own that ran out of memory; without a limit, for ever. Setting it in
the environment now is too late, because Ray is imported."""
FOLDER = "kinescribe."
"""The prefix of the folders of our own Rays."""
RAY_FOLDER = "r"
"""The only entry of such a folder; a Unix socket's path has no room for a longer name."""
ACCELERATOR = "accelerator_type:"
"""The prefix of the resource that says which GPU a machine has."""
NAMED = ("auto", "local")
"""Addresses that have no host and port."""
LAST_PORT = 65535
ANSWER_TIMEOUT_S = EXIT_TIMEOUT_S = 10.0
POLL_S = 0.02
LONGEST_SOCKET_FOLDER = 40
"""A Unix socket's path has at most 107 bytes, of which Ray's own part takes up to 66."""

_own_ray = ExitStack()
"""Ends the Ray that this process has started."""
_connecting = threading.Lock()
_num_connected = 0
"""The runs that now use the cluster that RAY_ADDRESS names, in threads of this process."""


def _silent(_text: str) -> None:
    """Notes nothing."""


@contextmanager
def ray_cluster(note: Callable[[str], object] = _silent) -> Generator[ClusterResources]:
    """What the cluster has. A Ray that this process uses already is used again and left running.

    Runs in several threads share it.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    address = os.environ.get("RAY_ADDRESS")
    with _exit_code_of_sigterm(), _own_ray_ended_if_interrupted(), ExitStack() as connected:
        with _connecting:
            if address and (_num_connected or not ray.is_initialized()):
                if not _num_connected:
                    note(f"connecting to Ray at {address}")
                connected.enter_context(_connected(address))
                grows = True
            elif ray.is_initialized():
                grows = _is_part_of_a_cluster()
            else:
                note("starting Ray")
                _start_own_ray()
                grows = False
        yield _resources(grows)


@contextmanager
def _connected(address: str) -> Generator[None]:
    """Connected to a cluster, until the last run that uses it ends. The caller holds `_connecting`."""
    global _num_connected
    if not _num_connected:
        _connect(address)
    _num_connected += 1
    try:
        yield
    finally:
        with _connecting:
            _num_connected -= 1
            if not _num_connected:
                ray.shutdown()


def end_own_ray() -> None:
    """End the Ray that this process started, if any. It ends with the process at the latest."""
    _own_ray.close()


def _start_own_ray() -> None:
    end_own_ray()  # which somebody may have shut down without removing its folder
    _ensure_token()
    with ExitStack() as starting:
        folder = starting.enter_context(_ray_folder())
        _run_in_lasting_thread(lambda: starting.enter_context(_ray_processes(folder)))
        _own_ray.callback(starting.pop_all().close)
    # Registered after Ray's own callback, so that it runs before.
    atexit.register(_end_at_exit, os.getpid())


def _run_in_lasting_thread(function: Callable[[], object]) -> None:
    """Run it in a thread that never ends: Ray's processes are killed with the thread that started them."""
    if threading.current_thread() is threading.main_thread():
        function()
        return
    result = Future[object]()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:  # noqa: BLE001 (raised in the caller's thread)
            result.set_exception(error)
        threading.Event().wait()

    threading.Thread(target=run, daemon=True).start()
    result.result()


def _end_at_exit(owner: int) -> None:
    if os.getpid() == owner:  # and not a process that it forked
        end_own_ray()


@contextmanager
def _ray_folder() -> Generator[str]:
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
            with _uninterrupted():
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ray_processes(folder: str) -> Generator[None]:
    """The processes of our own Ray. None of them is left at the end.

    They are killed, because a worker that ends by itself takes seconds or deadlocks, and what is committed is
    safe at any moment.
    """
    system = {"task_oom_retries": int(os.environ.get(*OOM_RETRIES))}
    try:
        # Ray makes its own folder readable for everybody; the one around it stays closed.
        _connect(include_dashboard=False, _temp_dir=f"{folder}/{RAY_FOLDER}", _system_config=system)
        yield
    finally:
        with _uninterrupted():
            started = _processes_in(folder)
            # Ray ends its helpers in turn, and waits up to a second for each.
            _kill(process for process in started if process.name().startswith("python"))
            ray.shutdown()
            _kill(started)
            deadline = time.monotonic() + EXIT_TIMEOUT_S
            while any(map(_is_alive, started)) and time.monotonic() < deadline:
                time.sleep(POLL_S)


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _is_alive(process: psutil.Process) -> bool:
    """Whether it has not exited; a container's first process may take seconds to collect those that have."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


@contextmanager
def _uninterrupted() -> Generator[None]:
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


def _processes_in(folder: str) -> list[psutil.Process]:
    """This process's children with that folder in their command line, and all their descendants."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if folder in " ".join(child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found


@contextmanager
def _own_ray_ended_if_interrupted() -> Generator[None]:
    """After Ctrl-C or SIGTERM, what runs on our own Ray must not go on until the process exits."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        end_own_ray()
        raise


@contextmanager
def _exit_code_of_sigterm() -> Generator[None]:
    """A process that SIGTERM stops exits with a shell's code, for which Ray has 15 or 1 at some moments."""
    try:
        yield
    except SystemExit as stop:
        raise SystemExit(128 + signal.SIGTERM) from stop


def _connect(address: str | None = None, **options: Any) -> None:
    try:
        with _descriptor_silenced(2):
            if address:
                _reach(address)
            ray.init(address, **QUIET, **options)
        if threading.current_thread() is threading.main_thread():
            # Replaces Ray's handler, which writes its stack to stderr.
            signal.signal(signal.SIGTERM, _exit)
    except (OSError, RpcError) as error:
        if address is None:
            raise
        raise _no_answer(address, error) from error
    except AuthenticationError as error:
        raise ConfigError(
            f"Ray's token cannot be used: {error.message.splitlines()[0]}; set RAY_AUTH_TOKEN_PATH to the "
            "file with the token, or unset RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH, so that the run starts its "
            "own Ray"
        ) from error


def _exit(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _reach(address: str) -> None:
    """Raises an error if no Ray answers there; `ray.init` would try for minutes or for ever."""
    host, _, port = address.rpartition(":")
    if address in NAMED:
        return
    if "://" in address or not port.isdecimal() or int(port) > LAST_PORT:
        raise ConfigError(
            f"RAY_ADDRESS={address}: a run needs HOST:PORT of the cluster's head, as `ray start` printed it, "
            "or auto; a dashboard's URL is for `kinescribe submit --address`; without RAY_ADDRESS the run "
            "starts its own Ray on this machine"
        )
    socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_TIMEOUT_S).close()
    get_cluster_status(address)


def _no_answer(address: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"RAY_ADDRESS={address}: no cluster of Ray answers ({error}); check the address, and where the "
        "cluster asks for a token set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH; without RAY_ADDRESS "
        "the run starts its own Ray on this machine"
    )


def _ensure_token() -> None:
    """Give Ray, whose ports are open to the network, a token in the environment of its processes only.

    Ray itself would write one to the home folder, where others can read it.
    """
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _descriptor_silenced(descriptor: int) -> Generator[None]:
    """Ray's C++ half prints its log level there. Errors are raised, not printed."""
    kept = os.dup(descriptor)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 (a device, not a path)
        os.dup2(nowhere.fileno(), descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


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


def _is_part_of_a_cluster() -> bool:
    """Whether this process's Ray has other machines or waits for some; its autoscaler doesn't say."""
    return len(_machines()) > 1 or not ray.cluster_resources().get("CPU")


def _machines() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _resources(grows: bool) -> ClusterResources:
    total = ray.cluster_resources()
    cards = [name.removeprefix(ACCELERATOR) for name in total if name.startswith(ACCELERATOR)]
    return ClusterResources(
        cpus=total.get("CPU", 0.0),
        gpus=total.get("GPU", 0.0),
        memory_bytes=int(total.get("memory", 0)),
        card_bytes=card_bytes(cards),
        machine_gpus=max(machine.get("GPU", 0.0) for machine in _machines()),
        grows=grows,
    )
