"""The templates of cluster/deploy, by what can say here whether they are right.

That is Ray's own schema and its reading of KubeRay's clusters, Kubernetes' schema of a pod, hadolint, and our
own command line. What none of them knows, KubeRay's and SkyPilot's fields, is compared with a list.
"""

import shlex
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import typer
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import fillout_defaults, validate_config

from kinescribe.cli import app
from kinescribe.cluster.code_package import LINKED
from kinescribe.commands.submit import read_command

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "cluster" / "deploy"
RAYJOB = yaml.safe_load((DEPLOY / "kuberay-rayjob.yaml").read_text())
CLUSTER = RAYJOB["spec"]["rayClusterSpec"]
HEAD, WORKERS = CLUSTER["headGroupSpec"], CLUSTER["workerGroupSpecs"]
SKY = yaml.safe_load((DEPLOY / "sky.yaml").read_text())
KUBERAY_FIELDS = [
    (RAYJOB, "apiVersion kind metadata spec"),
    (
        RAYJOB["spec"],
        "entrypoint shutdownAfterJobFinishes ttlSecondsAfterFinished backoffLimit rayClusterSpec",
    ),
    (
        CLUSTER,
        "rayVersion authOptions enableInTreeAutoscaling autoscalerOptions headGroupSpec workerGroupSpecs",
    ),
    (CLUSTER["authOptions"], "mode secretName"),
    (CLUSTER["autoscalerOptions"], "idleTimeoutSeconds upscalingMode version"),
    (HEAD, "rayStartParams template"),
    *((group, "groupName replicas minReplicas maxReplicas rayStartParams template") for group in WORKERS),
]
SKY_FIELDS = [
    (SKY, "name resources num_nodes workdir file_mounts setup run envs secrets"),
    (SKY["resources"], "infra accelerators cpus memory disk_size image_id use_spot job_recovery"),
]
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
    filled = fillout_defaults(config)
    validate_config(filled | {"cluster_synced_files": []})
    assert not filled["setup_commands"] + filled["head_setup_commands"] + filled["worker_setup_commands"]

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


@pytest.mark.parametrize(("part", "known"), [*KUBERAY_FIELDS, *SKY_FIELDS])
def test_no_field_is_misspelt(part, known):
    # Kubernetes drops a field that it doesn't know, without a word.
    assert set(part) <= set(known.split())


@pytest.mark.parametrize("group", [HEAD, *WORKERS], ids=["head", "decode", "label"])
def test_kubernetes_takes_the_pods_of_the_rayjob_and_none_runs_as_root(group):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": group["template"]["spec"]}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    assert pod["spec"]["securityContext"]["runAsNonRoot"]


def test_ray_reads_from_the_rayjob_a_head_without_work_and_spot_workers_within_bounds():
    cluster = {"metadata": {"name": "kinescribe", "namespace": "default"}, "spec": CLUSTER}
    nodes = _derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]
    assert nodes["headgroup"]["resources"]["CPU"] == 0
    assert nodes["label"]["resources"]["GPU"] == 1
    for worker in WORKERS:
        node = nodes[worker["groupName"]]
        assert 0 < node["min_workers"] < node["max_workers"]
        selector = worker["template"]["spec"]["nodeSelector"].items()
        tolerated = {(one["key"], one.get("value")) for one in worker["template"]["spec"]["tolerations"]}
        assert selector <= tolerated
    assert CLUSTER["enableInTreeAutoscaling"]
    assert CLUSTER["authOptions"]["mode"] == "token"


def test_the_rayjob_names_the_ray_of_the_image():
    assert f"ray=={CLUSTER['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_the_sky_job_runs_on_a_spot_machine_by_scripts_that_a_shell_can_read():
    assert SKY["resources"]["use_spot"]
    for script in (SKY["setup"], SKY["run"]):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize("command", [RAYJOB["spec"]["entrypoint"], SKY["run"]], ids=["kuberay", "sky"])
def test_a_template_labels_by_a_command_line_that_holds_on_a_cluster(command):
    _, dash_m, module, *arguments = shlex.split(command)
    assert (dash_m, module) == ("-m", "kinescribe")
    assert read_command(typer.main.get_command(app), arguments).name == "label"


def test_hadolint_finds_nothing_in_the_dockerfile():
    hadolint = [Path(sys.executable).with_name("hadolint"), DEPLOY / "Dockerfile"]
    found = subprocess.run(hadolint, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_has_the_whole_package_and_does_not_run_as_root():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = {line.split()[-1] for line in lines if line.startswith("COPY")}
    assert {"kinescribe", *LINKED} <= copied
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000"]
    assert all("--constraint constraints.txt" in line for line in lines if "pip install" in line)
