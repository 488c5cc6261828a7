"""Ray for one run: the cluster that RAY_ADDRESS names, or one of our own on this machine.

Knows nothing of what runs on it. Ends only what it started.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.exceptions import AuthenticationError, RpcError

from kinescribe.cluster.resources import ClusterResources, card_bytes
from kinescribe.schemas.errors import ConfigError

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": "kinescribe"}
DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray starts its workers at niceness 15, where they starve beside anything else on the machine.
    "RAY_worker_niceness": "0",
    # Ray's C++ half writes to the driver's stderr past every Python logger, in the middle of the progress.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
OOM_RETRIES = "RAY_task_oom_retries", "8"
"""How often Ray tries its own tasks again that it ended for want of memory: for ever, if not told otherwise.
To set it in the environment now is too late, as Ray is imported."""
FOLDER = "kinescribe."
"""What the names of the folders of our own Rays begin with."""
RAY_FOLDER = "r"
"""All that is in one; a Unix socket's path has no room for more."""
CARD = "accelerator_type:"
"""What the name of the resource begins with that says which GPU a machine has."""
NAMED = ("auto", "local")
"""The addresses that say which Ray without where it is."""
LAST_PORT = 65535
ANSWER_TIMEOUT_S = EXIT_TIMEOUT_S = 10.0
LONGEST_SOCKET_FOLDER = 40
"""A Unix socket's path has at most 107 bytes, of which Ray's own part takes up to 66."""


@contextmanager
def ray_cluster() -> Iterator[ClusterResources]:
    """What the cluster has; a Ray that runs in this process already is used and left running."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        yield _resources(grows=_is_part_of_a_cluster())
    elif address := os.environ.get("RAY_ADDRESS"):
        with _stopped_alike():
            try:
                _connect(address)
                yield _resources(grows=True)
            finally:
                ray.shutdown()
    else:
        _ensure_token()
        with _stopped_alike(), _own_folder() as folder, _own_ray(folder):
            yield _resources(grows=False)


@contextmanager
def _own_folder() -> Iterator[str]:
    """A folder that is removed in the end; those of runs that were killed before are removed now.

    A lock that dies with its process tells them apart, taken before the folder has the name to look for.
    """
    parent = _socket_folder()
    for left in Path(parent).glob(f"{FOLDER}????????"):
        with suppress(OSError), _locked(left):  # held by a run that lives, or not ours to open
            if {one.name for one in left.iterdir()} == {RAY_FOLDER}:  # or it is something of the user's
                shutil.rmtree(left, ignore_errors=True)
    unnamed = tempfile.mkdtemp(prefix=".ks-", dir=parent)
    folder = f"{parent}/{FOLDER}{unnamed[-8:]}"
    with _locked(unnamed):
        Path(unnamed).rename(folder)
        try:
            yield folder
        finally:
            with _uninterrupted():
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: str | Path) -> Iterator[None]:
    """Raises BlockingIOError where another process holds the folder's lock."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _own_ray(folder: str) -> Iterator[None]:
    """A Ray of this process; none of its processes is left in the end.

    A worker of Ray's can lock itself up as it exits, and would stay for ever.
    """
    system = {"task_oom_retries": int(os.environ.get(*OOM_RETRIES))}
    try:
        # Ray opens its own folder to everybody; the one around it stays closed.
        _connect(include_dashboard=False, _temp_dir=f"{folder}/{RAY_FOLDER}", _system_config=system)
        yield
    finally:
        with _uninterrupted():
            started = _processes(folder)
            ray.shutdown()
            for left in psutil.wait_procs(started, EXIT_TIMEOUT_S)[1]:
                with suppress(psutil.NoSuchProcess):
                    left.kill()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C would leave what is ended and removed here, which takes seconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _processes(folder: str) -> list[psutil.Process]:
    """Those that this process started by a command with that folder in it, and all below them."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if folder in " ".join(child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found


@contextmanager
def _stopped_alike() -> Iterator[None]:
    """Whoever is stopped by SIGTERM exits as a shell has it, for which Ray has 15 or 1 at some moments."""
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
            # After Ray's own, which writes the addresses of its stack to stderr first.
            signal.signal(signal.SIGTERM, _exit)
    except (OSError, RpcError) as error:
        if address is None:
            raise
        raise _no_answer(address, error) from error
    except AuthenticationError as error:
        raise ConfigError(
            f"Ray's token cannot be used: {error.message.splitlines()[0]}; set RAY_AUTH_TOKEN_PATH to the "
            "file with it, or unset RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH for a Ray of the run's own"
        ) from error


def _exit(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _reach(address: str) -> None:
    """Raises what says that no Ray answers there: itself, it would ask for minutes or for ever."""
    host, _, port = address.rpartition(":")
    if address in NAMED:
        return
    if "://" in address or not port.isdecimal() or int(port) > LAST_PORT:
        raise ConfigError(
            f"RAY_ADDRESS={address}: a run needs HOST:PORT of the cluster's head, as `ray start` printed it, "
            "or auto; a dashboard's URL is for `kinescribe submit --address`; without RAY_ADDRESS the run "
            "starts a Ray of its own on this machine"
        )
    socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_TIMEOUT_S).close()
    get_cluster_status(address)


def _no_answer(address: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"RAY_ADDRESS={address}: no cluster of Ray answers ({error}); check the address, and where the "
        "cluster asks for a token set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH; without RAY_ADDRESS "
        "the run starts a Ray of its own on this machine"
    )


def _ensure_token() -> None:
    """Ray's ports are open to the network: give it a token, in the environment of its processes alone.

    Ray itself would write one that others can read to the home folder.
    """
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _descriptor_silenced(descriptor: int) -> Iterator[None]:
    """Ray's C++ half announces its log level there; what goes wrong is raised."""
    kept = os.dup(descriptor)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 (a device, not a path)
        os.dup2(nowhere.fileno(), descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


def _socket_folder() -> str:
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return folder if len(folder) + len(f"/{FOLDER}xxxxxxxx/{RAY_FOLDER}") <= LONGEST_SOCKET_FOLDER else "/tmp"


def _is_part_of_a_cluster() -> bool:
    """Whether this process's Ray has other machines, or waits for some: its autoscaler tells nobody."""
    return len(_machines()) > 1 or not ray.cluster_resources().get("CPU")


def _machines() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _resources(grows: bool) -> ClusterResources:
    total = ray.cluster_resources()
    cards = [name.removeprefix(CARD) for name in total if name.startswith(CARD)]
    return ClusterResources(
        cpus=total.get("CPU", 0.0),
        gpus=total.get("GPU", 0.0),
        memory_bytes=int(total.get("memory", 0)),
        card_bytes=card_bytes(cards),
        machine_gpus=max(machine.get("GPU", 0.0) for machine in _machines()),
        grows=grows,
    )
