"""What others find of a run: where its Ray listens, and what another user of the machine can open."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from kinescribe.storage.shards import committed_units
from tests.drivers import SLOW_MODEL

OTHER_USER = """
import http.client, json, os, socket, sys
paths, sockets = json.loads(sys.stdin.read())
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
reached = []
for path in paths:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)
        reached.append(path)
    except OSError:
        pass
for path in sockets:
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        reached.append(path)
    except OSError:
        pass
print(json.dumps(reached))
"""


def processes(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return []


def connections(pid: int, kind: str) -> list:
    found = []
    for process in processes(pid):
        with suppress(psutil.NoSuchProcess):
            found += process.net_connections(kind)
    return found


def reached_by_another_user(paths: list[str], sockets: list[str]) -> list[str]:
    asked = json.dumps([paths, sockets])
    run = subprocess.run(
        [sys.executable, "-c", OTHER_USER], input=asked, capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)


def private_files(pid: int, folder: Path) -> list[str]:
    """Ray's folder and all in it, and what /proc shows of its processes, their shared memory too."""
    of_processes = [
        f"/proc/{process.pid}/{name}"
        for process in processes(pid)
        for name in ("environ", "maps", "mem", "fd", "cwd", "root", "map_files")
    ]
    return [str(folder), *(str(path) for path in folder.rglob("*")), *of_processes]


def shared_memory(pid: int) -> list[str]:
    """The files of the processes' shared memory that have a name, by which others could open them."""
    maps = [f"/proc/{process.pid}/maps" for process in processes(pid)]
    names = set()
    for path in maps:
        with suppress(FileNotFoundError, ProcessLookupError):
            names |= {line.split(maxsplit=5)[-1] for line in Path(path).read_text().splitlines()}
    assert any(name.startswith("/dev/shm/") for name in names)
    return [name for name in names if name.startswith("/dev/shm/") and "(deleted)" not in name]


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_listens_to_this_machine_only_and_shows_other_users_nothing(
    tmp_path, start_driver, clips_folder, model_folder
):
    source = clips_folder(*(f"clip-{index}" for index in range(6)))
    parent = Path(tempfile.mkdtemp(prefix="k", dir="/tmp"))
    parent.chmod(0o1777)  # as /tmp is
    driver, out, log = start_driver(source, model_folder, program=SLOW_MODEL, RAY_TMPDIR=str(parent))
    listening, is_checked = set(), False
    while driver.poll() is None:
        inet = connections(driver.pid, "inet")
        listening |= {one.laddr for one in inet if one.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)}
        if not is_checked and committed_units(out):
            is_checked = True
            (folder,) = parent.glob("kinescribe.*")
            sockets = [one.laddr for one in connections(driver.pid, "unix") if str(parent) in one.laddr]
            assert len(set(sockets)) > 1
            files = private_files(driver.pid, folder)
            if os.geteuid() == 0:  # only root can become another user
                assert reached_by_another_user([*files, str(parent)], sockets) == [str(parent)]
            assert shared_memory(driver.pid) == []
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        time.sleep(0.05)
    assert driver.returncode == 0, log.read_text()
    assert is_checked
    assert len(listening) > 5
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}, listening
    shutil.rmtree(parent)
