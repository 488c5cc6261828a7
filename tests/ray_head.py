"""A Ray head in another process, with its own ports, folder and token."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ray.autoscaler._private.monitor import BASE_READONLY_CONFIG

from tests.ports import free_ports

PORTS = (
    "--port",
    "--dashboard-port",
    "--dashboard-agent-listen-port",
    "--dashboard-agent-grpc-port",
    "--runtime-env-agent-port",
    "--metrics-export-port",
    "--ray-client-server-port",
)
START_S = 300.0
STARTS = 3


@dataclass(frozen=True)
class RayHead:
    url: str
    """The URL of the dashboard."""
    address: str
    """The value for RAY_ADDRESS."""
    folder: Path
    """The folder of Ray's sessions."""
    process: psutil.Process
    environment: dict[str, str]
    """The environment of a process that may connect to it."""


@contextmanager
def ray_head(num_cpus: int = 8, machines: Mapping[str, Any] | None = None) -> Iterator[RayHead]:
    """A head that requires a token. At the end, it and all processes that it started are ended.

    `machines` are the types of machines that Ray's autoscaler adds and removes, which are fake: processes on
    this machine.
    """
    folder = Path(tempfile.mkdtemp(prefix="kh-", dir="/tmp"))
    token = folder / "token"
    token.touch(0o600)
    token.write_text("1" * 64)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment.pop("PYTHONPATH", None)  # a job must use the code that was sent
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_metrics_report_interval_ms": "1000",
    }
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    command = ["ray", "start", "--head", "--block", f"--num-cpus={num_cpus}", f"--temp-dir={folder}/r"]
    command += ["--node-ip-address=127.0.0.1", "--object-store-memory=100000000", "--include-dashboard=true"]
    command += [f"{option}={port}" for option, port in ports.items()]
    autoscaler = {}
    if machines:
        config = folder / "autoscaler.json"
        config.write_text(json.dumps(_autoscaling(machines, f"127.0.0.1:{ports['--port']}")))
        command.append(f"--autoscaling-config={config}")
        autoscaler = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    head = _started(command, environment | autoscaler, ports["--dashboard-port"], folder / "log")
    try:
        url, address = (f"127.0.0.1:{ports[option]}" for option in ("--dashboard-port", "--port"))
        yield RayHead(f"http://{url}", address, folder / "r", psutil.Process(head.pid), environment)
    finally:
        _end(head)
        shutil.rmtree(folder, ignore_errors=True)


def _started(
    command: list[str], environment: Mapping[str, str], port: int, log: Path
) -> subprocess.Popen[bytes]:
    """The head as soon as it listens. Ray itself gives up after 30 s, which a busy machine may need."""
    for _ in range(STARTS):
        with log.open("wb") as stream:
            head = subprocess.Popen(
                command, env=environment, stdout=stream, stderr=stream, start_new_session=True
            )
        deadline = time.monotonic() + START_S
        while head.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return head
            time.sleep(0.1)
        _end(head)
    raise AssertionError(log.read_text())


def _end(head: subprocess.Popen[bytes]) -> None:
    """Ends the head and what it started."""
    started = list[psutil.Process]()
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(head.pid)
        started = [process, *process.children(recursive=True)]
    head.terminate()
    # Ray waits for the detached actors that Ray Data leaves, which isn't needed here.
    _, alive = psutil.wait_procs(started, timeout=6)
    for one in alive:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    with suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGKILL)  # of a head that ended while it started
    head.wait()


def _autoscaling(machines: Mapping[str, Any], address: str) -> dict[str, Any]:
    head = BASE_READONLY_CONFIG["available_node_types"]
    provider = {"type": "fake_multinode", "gcs_address": address, "disable_node_updaters": True}
    return BASE_READONLY_CONFIG | {
        "max_workers": sum(machine["max_workers"] for machine in machines.values()),
        "idle_timeout_minutes": 0.05,
        "upscaling_speed": 10.0,
        "available_node_types": {**head, **machines},
        "provider": BASE_READONLY_CONFIG["provider"] | provider,
    }
