"""Fixtures for labelling runs in other processes, and for ending them."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.drivers import DRIVER
from tests.processes import below
from tests.tiny_vlm import tiny_vlm

ROOT = Path(__file__).parents[2]


def ray_processes(driver):
    """The processes of a driver's Ray, without its agents, which notice its end only after a minute."""
    return below(driver.pid, "(?i)^((?!agent).)*$")


@pytest.fixture
def end_driver():
    """Sends a signal to a driver, and waits until its Ray has ended."""

    def end(driver, number):
        started = ray_processes(driver)
        driver.send_signal(number)
        driver.wait(timeout=60)
        assert started
        assert psutil.wait_procs(started, timeout=60)[1] == []

    return end


@pytest.fixture
def start_driver(tmp_path):
    """Starts a run in another process; its stderr goes to a file."""
    drivers = []

    def start(source, model, out=str(tmp_path / "out"), program=DRIVER, **environment):
        log = tmp_path / f"stderr-{len(drivers)}"
        command = [sys.executable, "-c", program, source, out, model]
        environment = {**os.environ, **environment}
        with log.open("wb") as stderr:
            driver = subprocess.Popen(
                command, cwd=ROOT, env=environment, stderr=stderr, start_new_session=True
            )
        drivers.append(driver)
        return driver, out, log

    yield start
    for driver in drivers:
        left = psutil.Process(driver.pid).children(recursive=True) if driver.poll() is None else []
        for process in (driver, *left):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        driver.wait()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_vlm().save(folder)
    return str(folder)


@pytest.fixture
def clips_folder(tmp_path):
    """Makes a folder of files for `FakeExtractor`, which uses only their names."""

    def make(*names: str) -> str:
        folder = tmp_path / "clips"
        folder.mkdir()
        for name in names:
            (folder / f"{name}.mp4").write_bytes(b"x")
        return str(folder)

    return make
