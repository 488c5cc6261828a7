import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from http.client import BadStatusLine, HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import ray

from kinescribe.cluster.ray_folder import ray_folder as own_folder
from kinescribe.cluster.ray_session import ray_cluster
from kinescribe.schemas.errors import ConfigError
from tests.processes import below

ROOT = Path(__file__).parents[2]
GUEST = """
import ray
from kinescribe.cluster.ray_session import ray_cluster
with ray_cluster() as resources:
    print(resources.cpus, ray.get_runtime_context().gcs_address)
assert not ray.is_initialized()
"""


@pytest.mark.ray
def test_a_running_ray_of_the_process_is_used_and_left_running(ray_here):
    with ray_cluster() as resources:
        assert resources == ray_here
    assert ray.is_initialized()


TWICE = """
import ray
from kinescribe.cluster.ray_session import ray_cluster
addresses = []
for again in range(3):
    with ray_cluster(print) as resources:
        assert not resources.grows
        print(ray.get_runtime_context().gcs_address)
    if again == 1:
        ray.shutdown()
"""


@pytest.mark.parametrize(
    "address", ["me:hunter2@127.0.0.1:6379", "http://me:hunter2@127.0.0.1:8265", "hunter2@127.0.0.1:6379"]
)
def test_a_password_in_ray_address_is_refused_and_not_repeated(
    address: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("RAY_ADDRESS", address)
    notes: list[str] = []
    message = "RAY_ADDRESS must not contain a password"
    with pytest.raises(ConfigError, match=message) as refused, ray_cluster(notes.append):
        pass
    told = capfd.readouterr()
    assert "hunter2" not in f"{refused.value}{notes}{told.out}{told.err}"


@pytest.mark.ray
@pytest.mark.slow
def test_a_process_starts_one_ray_for_all_its_runs_and_ends_it_when_it_exits(ray_folder):
    raylet = rf"{ray_folder}/kinescribe\.\w+/r/.*raylet"
    before, running = set(Path(ray_folder).iterdir()), below(os.getpid(), raylet)
    run = subprocess.run([sys.executable, "-c", TWICE], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    started, first, second, started_again, third = run.stdout.splitlines()
    assert started == started_again == "starting Ray"
    assert first == second != third
    assert set(Path(ray_folder).iterdir()) == before
    assert below(os.getpid(), raylet) == running


@pytest.mark.ray
def test_the_cluster_of_ray_address_is_joined_and_left_running(ray_here):
    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "RAY_ADDRESS": address, "RAY_AUTH_MODE": "token"}
    guest = subprocess.run(
        [sys.executable, "-c", GUEST], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert guest.stdout.split() == [str(ray_here.cpus), address], guest.stderr
    assert ray.cluster_resources()["CPU"] == ray_here.cpus


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"RAY_ADDRESS": "127.0.0.1:1"}, "RAY_ADDRESS=127.0.0.1:1: no cluster of Ray answers"),
        ({"RAY_ADDRESS": "http://127.0.0.1:8265"}, "a dashboard's URL is for `kinescribe submit --address`"),
        ({"RAY_ADDRESS": "nowhere"}, "RAY_ADDRESS=nowhere: a run needs HOST:PORT"),
        ({"RAY_ADDRESS": "127.0.0.1:99999"}, "RAY_ADDRESS=127.0.0.1:99999: a run needs HOST:PORT"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere"}, "Ray's token cannot be used"),
    ],
)
def test_an_unreachable_ray_is_a_user_error(changes: dict[str, str], said: str):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"} | changes
    guest = subprocess.run(
        [sys.executable, "-c", GUEST], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    last = guest.stderr.splitlines()[-1]
    assert last.startswith("kinescribe.schemas.errors.ConfigError: ")
    assert said in last


@pytest.mark.ray
@pytest.mark.slow
def test_a_server_that_is_not_ray_is_a_user_error():
    """Ray itself asks it for many minutes."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        environment = {**os.environ, "RAY_ADDRESS": address}
        guest = subprocess.run(
            [sys.executable, "-c", GUEST],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
    said = (
        f"kinescribe.schemas.errors.ConfigError: RAY_ADDRESS={address}: no cluster of Ray answers (Timed out"
    )
    assert guest.stderr.splitlines()[-1].startswith(said)


KILLED = """
import os, signal
from kinescribe.cluster.ray_folder import ray_folder as own_folder
with own_folder() as folder:
    os.mkdir(folder + "/r")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folder_of_a_killed_run_is_removed_and_that_of_a_live_one_stays(monkeypatch):
    folder = tempfile.mkdtemp(prefix="k", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    with own_folder() as alive:
        killed = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, capture_output=True, text=True)
        left = Path(killed.stdout.strip())
        assert {str(one) for one in Path(folder).iterdir()} == {alive, str(left)}
        with own_folder() as own:
            assert {str(one) for one in Path(folder).iterdir()} == {alive, own}
    Path(folder).rmdir()


def test_a_users_folder_of_such_a_name_stays(monkeypatch):
    folder = tempfile.mkdtemp(prefix="k", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    theirs = [Path(folder, name) for name in ("kinescribe.datasets", "kinescribe.old", "kinescribe.empty123")]
    for one in theirs:
        one.mkdir()
    (theirs[0] / "r").mkdir()
    (theirs[0] / "run.json").write_text("{}")
    with own_folder():
        pass
    assert sorted(Path(folder).iterdir()) == sorted(theirs)
    shutil.rmtree(folder)


@pytest.mark.timeout(20)
def test_what_others_put_into_the_temporary_folder_does_not_stop_a_start(monkeypatch, tmp_path):
    folder = tempfile.mkdtemp(prefix="k", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    os.mkfifo(f"{folder}/kinescribe.fifo1234")
    (tmp_path / "r").mkdir()
    Path(folder, "kinescribe.link1234").symlink_to(tmp_path)
    Path(folder, "kinescribe.file1234").touch()
    theirs = sorted(Path(folder).iterdir())
    with own_folder():
        pass
    assert sorted(Path(folder).iterdir()) == theirs
    assert (tmp_path / "r").is_dir()
    shutil.rmtree(folder)


def test_a_temporary_folder_in_which_others_can_replace_files_is_refused(monkeypatch):
    folder = tempfile.mkdtemp(prefix="k", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    Path(folder).chmod(0o777)
    with pytest.raises(ConfigError, match=rf"chmod \+t {folder}"), own_folder():
        pass
    Path(folder).chmod(0o1777)
    with own_folder():
        pass
    Path(folder).rmdir()


THREADS = """
import threading, time
import psutil, ray
from kinescribe.cluster.ray_session import ray_cluster
addresses = []
def use():
    with ray_cluster() as resources:
        assert not resources.grows
        addresses.append(ray.get_runtime_context().gcs_address)
        time.sleep(1)
for _ in range(2):
    threads = [threading.Thread(target=use) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
time.sleep(1)
(raylet,) = [child for child in psutil.Process().children() if child.name() == "raylet"]
assert raylet.status() != psutil.STATUS_ZOMBIE
mine = [psutil.Process(), *psutil.Process().children(recursive=True)]
ports = [port for process in mine for port in process.net_connections("inet") if port.status == "LISTEN"]
assert len(ports) > 5
assert {port.laddr.ip.removeprefix("::ffff:") for port in ports} == {"127.0.0.1"}, ports
print(len(addresses), len(set(addresses)))
"""


@pytest.mark.ray
def test_threads_share_a_ray_that_outlives_them_and_listens_to_this_machine_only(ray_folder):
    run = subprocess.run(
        [sys.executable, "-c", THREADS], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["6", "1"]


STUCK = """
import atexit, os, time
import ray
from kinescribe.cluster.ray_session import ray_cluster

@ray.remote(num_cpus=0)
class Worker:
    def pid(self):
        atexit.register(time.sleep, 600)
        return os.getpid()

with ray_cluster():
    worker = Worker.remote()
    print(ray.get(worker.pid.remote()))
    del worker
    time.sleep(2)
"""


@pytest.mark.ray
def test_a_worker_that_does_not_exit_is_killed(ray_folder):
    run = subprocess.run([sys.executable, "-c", STUCK], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(run.stdout)).wait(10)


STOPPED = """
import os, signal, sys, threading, time
import ray
from kinescribe.cluster.ray_session import ray_cluster

@ray.remote(num_cpus=0)
def never():
    time.sleep(600)

def stop_after(seconds):
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM)).start()

if sys.argv[1] == "start":
    stop_after(0.5)
with ray_cluster():
    assert sys.argv[1] == "wait"
    waits = never.remote()
    stop_after(1)
    ray.get(waits)
"""


@pytest.mark.ray
@pytest.mark.parametrize("moment", ["wait", pytest.param("start", marks=pytest.mark.slow)])
def test_sigterm_exits_with_a_shells_code(moment: str, ray_folder):
    before = set(Path(ray_folder).iterdir())
    run = subprocess.run([sys.executable, "-c", STOPPED, moment], cwd=ROOT, capture_output=True, timeout=600)
    assert run.returncode == 128 + signal.SIGTERM, run.stderr
    assert set(Path(ray_folder).iterdir()) == before


METHODS = (
    "NodeInfoGcsService/GetAllNodeInfo",
    "NodeManagerService/GetNodeStats",
    "ObjectManagerService/Pull",
    "CoreWorkerService/GetCoreWorkerStats",
    "ReporterService/GetTraceback",
)
"""One of each kind of Ray's processes."""


def ray_processes():
    return below(os.getpid(), "/ray/|^ray::")


def listening() -> set[Any]:
    """The addresses at which Ray's processes listen."""
    connections = []
    for process in ray_processes():
        with suppress(psutil.NoSuchProcess):
            connections += process.net_connections("tcp")
    return {one.laddr for one in connections if one.status == psutil.CONN_LISTEN}


def answer(address) -> str | None:
    """What a port has to say to a caller without the token; UNIMPLEMENTED comes after UNAUTHENTICATED.

    None where nobody listens any longer.
    """
    connection = HTTPConnection(address.ip, address.port, timeout=20)
    try:
        connection.request("GET", "/api/job_agent/jobs/")
        reply = connection.getresponse()
        return "metrics" if reply.read().startswith(b"# HELP") else str(reply.status)
    except BadStatusLine:  # which speaks gRPC
        return min(filter(None, (code(method, address) for method in METHODS)), default=None)
    except ConnectionError:
        return None
    finally:
        connection.close()


def code(method, address) -> str | None:
    with grpc.insecure_channel(f"127.0.0.1:{address.port}") as channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(f"/ray.rpc.{method}")(b"", timeout=20)
    code = error.value.code()
    return None if code is grpc.StatusCode.UNAVAILABLE else code.name


@pytest.mark.ray
def test_a_caller_without_the_token_gets_counts_and_nothing_else(ray_here):
    answers = [said for address in listening() if (said := answer(address))]
    assert {"401", "UNAUTHENTICATED"} <= set(answers) <= {"401", "UNAUTHENTICATED", "metrics"}
    assert answers.count("UNAUTHENTICATED") > 3


@pytest.mark.ray
def test_the_token_is_in_no_file_and_on_no_command_line(ray_here, ray_folder):
    token = os.environ["RAY_AUTH_TOKEN"]
    processes = ray_processes()
    assert token in {one.environ().get("RAY_AUTH_TOKEN") for one in processes}
    assert not [one for one in processes if token in " ".join(one.cmdline())]
    files = [path for path in Path(ray_folder).rglob("*") if path.is_file()]
    assert any(path.stat().st_size for path in files)
    assert not [path for path in files if token.encode() in path.read_bytes()]
    written_by_ray = Path.home() / ".ray" / "auth_token"
    assert not written_by_ray.exists() or token not in written_by_ray.read_text()


@pytest.mark.ray
def test_rays_folder_is_private_and_short_enough_for_sockets(ray_here, ray_folder):
    sessions = list(Path(ray_folder).glob("kinescribe.*"))
    assert {stat.S_IMODE(session.stat().st_mode) for session in sessions} == {0o700}
    sockets = [path for session in sessions for path in session.rglob("*") if path.is_socket()]
    assert sockets
    # What a Unix socket allows; the numbers of processes in the names differ in length.
    assert max(len(str(path)) for path in sockets) <= 107


INTERRUPTED = """
import ray
from kinescribe.cluster.ray_session import ray_cluster
try:
    with ray_cluster():
        raise KeyboardInterrupt
except KeyboardInterrupt:
    print(ray.is_initialized())
"""


@pytest.mark.ray
@pytest.mark.slow
def test_our_own_ray_ends_with_a_run_that_is_interrupted(ray_folder):
    command = [sys.executable, "-c", INTERRUPTED]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (run.returncode, run.stdout.split()) == (0, ["False"]), run.stderr


def test_a_machine_too_busy_to_start_ray_is_told_in_words(monkeypatch):
    def init(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match="overloaded; run the same command again"), ray_cluster():
        pass
