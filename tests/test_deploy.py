"""The templates of cluster/deploy, by what can say here whether they are right: Ray's own schema."""

from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import fillout_defaults, validate_config

from cluster.package import ROOMS

DEPLOY = Path(__file__).parents[1] / "cluster" / "deploy"
SPOT = {
    "aws": ("InstanceMarketOptions", {"MarketType": "spot"}),
    "gcp": (
        "scheduling",
        [
            {"provisioningModel": "SPOT"},
            {"instanceTerminationAction": "DELETE"},
            {"onHostMaintenance": "TERMINATE"},
        ],
    ),
}


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_rays_launcher_takes_the_cluster_with_a_head_without_work_and_spot_workers(cloud):
    config = yaml.safe_load((DEPLOY / f"{cloud}.yaml").read_text())
    validate_config(fillout_defaults(config) | {"cluster_synced_files": []})

    nodes = config["available_node_types"]
    assert nodes["head"]["resources"]["CPU"] == 0
    option, value = SPOT[cloud]
    for worker in ("decode", "label"):
        assert nodes[worker]["node_config"][option] == value
        assert 0 < nodes[worker]["min_workers"] < nodes[worker]["max_workers"]
    assert config["max_workers"] >= sum(nodes[worker]["max_workers"] for worker in ("decode", "label"))


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_every_machine_of_a_launched_cluster_asks_for_the_token(cloud):
    config = yaml.safe_load((DEPLOY / f"{cloud}.yaml").read_text())
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        start = commands[-1]
        assert start.startswith(
            "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=/home/ray/.kinescribe-token ray start"
        )


def test_the_image_has_every_room_and_does_not_run_as_root():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = {line.split()[-1] for line in lines if line.startswith("COPY")}
    assert set(ROOMS) <= copied
    assert [line for line in lines if line.startswith("USER")] == ["USER ray"]
    assert all("--constraint constraints.txt" in line for line in lines if "pip install" in line)
