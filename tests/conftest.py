"""Fixtures for several packages: an S3 server process, one Ray for all tests, and the order of the tests."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator

import boto3
import pytest
from hypothesis import settings
from s3fs import S3FileSystem

from tests.fault_proxy import FaultProxy, fault_proxy
from tests.ports import free_ports

# On a busy machine anything can take a second; pytest-timeout catches what hangs.
settings.register_profile("kinescribe", deadline=None)
settings.load_profile("kinescribe")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest tests first, so that the two processes finish together."""

    def timeout_s(item: pytest.Item) -> float:
        marker = item.get_closest_marker("timeout")
        return marker.args[0] if marker else 0.0

    items.sort(key=timeout_s, reverse=True)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A moto server in its own process, so that other processes can reach it."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            environment.setenv(name, value)
        try:
            _wait_for(port)
            S3FileSystem.clear_instance_cache()  # of clients that found no credentials
            yield endpoint
        finally:
            server.kill()
            server.wait()


@pytest.fixture
def proxy(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy between the object store and all clients that are created from now on."""
    host, port = s3_endpoint.removeprefix("http://").split(":")
    with fault_proxy((host, int(port))) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        S3FileSystem.clear_instance_cache()
        yield proxy
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(s3_endpoint: str) -> str:
    """The URI of a new bucket."""
    name = f"tests-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def ray_folder():
    """A folder for Ray's sockets with a short path."""
    folder = tempfile.mkdtemp(prefix="kt-", dir="/tmp")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_TMPDIR", folder)
        environment.delenv("RAY_ADDRESS", raising=False)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_here(ray_folder):
    """A Ray in this process, which every run of the process uses."""
    from kinescribe.cluster.ray_session import end_own_ray, ray_cluster

    with ray_cluster() as resources:
        yield resources
    end_own_ray()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
