"""What a labelling run needs, and an end for what it started."""

import psutil
import pytest

from tests.processes import below
from tests.tiny_vlm import tiny_vlm


def ray_processes(driver):
    """The processes of a driver's Ray but its agents, which see only after a minute that it is gone."""
    return below(driver.pid, "(?i)^((?!agent).)*$")


@pytest.fixture
def end_driver():
    """Sends a driver a signal, and waits until nothing of its Ray is left."""

    def end(driver, number):
        started = ray_processes(driver)
        driver.send_signal(number)
        driver.wait(timeout=60)
        assert started
        assert psutil.wait_procs(started, timeout=60)[1] == []

    return end


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_vlm().save(folder)
    return str(folder)


@pytest.fixture
def clips_folder(tmp_path):
    """Makes a folder of files for `FakeExtractor`, which goes by their names alone."""

    def make(*names: str) -> str:
        folder = tmp_path / "clips"
        folder.mkdir()
        for name in names:
            (folder / f"{name}.mp4").write_bytes(b"x")
        return str(folder)

    return make
