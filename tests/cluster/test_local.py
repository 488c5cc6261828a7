import os
import stat
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
import ray

from cluster.local import ray_cluster

ROOT = Path(__file__).parents[2]
GUEST = """
import ray
from cluster.local import ray_cluster
with ray_cluster() as resources:
    print(resources.cpus, ray.get_runtime_context().gcs_address)
assert not ray.is_initialized()
"""


@pytest.mark.ray
def test_a_ray_that_runs_already_is_used_and_left_running(ray_here):
    with ray_cluster() as resources:
        assert resources == ray_here
    assert ray.is_initialized()


@pytest.mark.ray
def test_the_cluster_of_ray_address_is_joined_and_left_running(ray_here):
    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "RAY_ADDRESS": address, "RAY_AUTH_MODE": "token"}
    guest = subprocess.run(
        [sys.executable, "-c", GUEST], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
    )
    assert guest.stdout.split() == [str(ray_here.cpus), address], guest.stderr
    assert ray.cluster_resources()["CPU"] == ray_here.cpus


def test_an_address_where_nobody_listens_is_an_error_of_the_user():
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
    guest = subprocess.run(
        [sys.executable, "-c", GUEST], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
    )
    assert "ConfigError: RAY_ADDRESS=127.0.0.1:1: no cluster of Ray answers" in guest.stderr


@pytest.mark.ray
def test_a_caller_without_the_token_is_turned_away(ray_here):
    with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        with pytest.raises(grpc.RpcError) as error:
            call(b"", timeout=20)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.ray
def test_its_folder_is_closed_to_others_and_short_enough_for_sockets(ray_here, ray_folder):
    sessions = list(Path(ray_folder).glob("kinescribe-*"))
    assert {stat.S_IMODE(session.stat().st_mode) for session in sessions} == {0o700}
    sockets = [path for session in sessions for path in session.rglob("*") if path.is_socket()]
    assert sockets
    # What a Unix socket allows; the numbers of processes in the names differ in length.
    assert max(len(str(path)) for path in sockets) <= 107
