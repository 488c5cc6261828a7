"""One Ray for the tests of this folder, and what a labelling run needs beside it."""

import shutil
import tempfile

import pytest

from tests.tiny_vlm import tiny_vlm


@pytest.fixture(scope="session")
def ray_folder():
    """Where Ray keeps its sockets: short, and nobody else's."""
    folder = tempfile.mkdtemp(prefix="kt-", dir="/tmp")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_TMPDIR", folder)
        environment.delenv("RAY_ADDRESS", raising=False)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_here(ray_folder):
    """A Ray in this process, used by every run that starts while it lives."""
    from cluster.local import ray_cluster

    with ray_cluster() as resources:
        yield resources


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
