"""Ray for a process: the cluster that RAY_ADDRESS names, or one of our own on this machine.

Our own is started by the first run that needs it and serves all later runs of the process. Knows nothing of
what runs on it. Ends only what it started.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import ray
from ray._private import ray_constants
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.exceptions import AuthenticationError, RpcError

from kinescribe.cluster.ray_folder import RAY_FOLDER, processes_killed, ray_folder, run_in_lasting_thread
from kinescribe.cluster.resources import ClusterResources, card_bytes
from kinescribe.schemas.errors import ConfigError

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
ACCELERATOR = "accelerator_type:"
"""The prefix of the resource that says which GPU a machine has."""
NAMED = ("auto", "local")
"""Addresses that have no host and port."""
LAST_PORT = 65535
LOOPBACK = "127.0.0.1"
ANSWER_TIMEOUT_S = 10.0

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
    address = named_address()
    with _exit_code_of_sigterm(), _own_ray_ended_if_interrupted(), ExitStack() as connected:
        with _connecting:
            if address and (_num_connected or not ray.is_initialized()):
                connected.enter_context(_connected(address, note))
                grows = True
            elif ray.is_initialized():
                grows = _is_part_of_a_cluster()
            else:
                note("starting Ray")
                _start_own_ray()
                grows = False
        yield _resources(grows)


def named_address() -> str | None:
    """The cluster that RAY_ADDRESS names. Raises ConfigError if it holds a password."""
    address = os.environ.get("RAY_ADDRESS")
    if address and "@" in address:
        raise ConfigError(
            "RAY_ADDRESS must not contain a password; give HOST:PORT, and where the cluster asks for a token "
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
        )
    return address


@contextmanager
def _connected(address: str, note: Callable[[str], object]) -> Generator[None]:
    """Connected to a cluster, until the last run that uses it ends. The caller holds `_connecting`."""
    global _num_connected
    if not _num_connected:
        note(f"connecting to Ray at {address}")
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
        folder = starting.enter_context(ray_folder())
        starting.enter_context(processes_killed(folder))
        # Ray makes its own folder readable for everybody; the one around it stays closed.
        options: dict[str, Any] = {"include_dashboard": False, "_temp_dir": f"{folder}/{RAY_FOLDER}"}
        system = {"task_oom_retries": int(os.environ.get(*OOM_RETRIES))}
        with _on_loopback():
            run_in_lasting_thread(lambda: _connect(_system_config=system, **options))
        _own_ray.callback(starting.pop_all().close)
    # Registered after Ray's own callback, so that it runs before.
    atexit.register(_end_at_exit, os.getpid())


@contextmanager
def _on_loopback() -> Generator[None]:
    """A Ray that starts in the block listens to this machine only, and can be joined in such a block only.

    Ray has an environment variable for that, but has read it by now.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False  # pyright: ignore[reportConstantRedefinition]
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before  # pyright: ignore[reportConstantRedefinition]


def _end_at_exit(owner: int) -> None:
    if os.getpid() == owner:  # and not a process that it forked
        end_own_ray()


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


class _SlowStartInWords:
    """Turns Ray's error about a start that takes too long into ConfigError: it is a bare Exception."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is Exception and "timed out during startup" in str(error):
            raise ConfigError(
                "Ray did not start within 30 s: this machine is overloaded; run the same command again"
            ) from error


def _connect(address: str | None = None, **options: Any) -> None:
    try:
        with _SlowStartInWords(), _descriptor_silenced(2), ExitStack() as interface:
            if address and _reach(address):
                interface.enter_context(_on_loopback())
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


def _reach(address: str) -> bool:
    """Whether the Ray there is on the loopback interface, as our own is.

    Raises an error if no Ray answers; `ray.init` would try for minutes or for ever.
    """
    host, _, port = address.rpartition(":")
    if address in NAMED:
        return False
    if "://" in address or not port.isdecimal() or int(port) > LAST_PORT:
        raise ConfigError(
            f"RAY_ADDRESS={address}: a run needs HOST:PORT of the cluster's head, as `ray start` printed it, "
            "or auto; a dashboard's URL is for `kinescribe submit --address`; without RAY_ADDRESS the run "
            "starts its own Ray on this machine"
        )
    socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_TIMEOUT_S).close()
    status = get_cluster_status(address)
    return any(node.ip_address == LOOPBACK for node in [*status.active_nodes, *status.idle_nodes])


def _no_answer(address: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"RAY_ADDRESS={address}: no cluster of Ray answers ({error}); check the address, and where the "
        "cluster asks for a token set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH; without RAY_ADDRESS "
        "the run starts its own Ray on this machine"
    )


def _ensure_token() -> None:
    """Give Ray, whose ports other users can reach, a token in the environment of its processes only.

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
