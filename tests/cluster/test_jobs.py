"""A real head with a token, and the real command line before it."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pyarrow.compute as pc
import pytest
from ray.dashboard.modules.metrics.dashboards import default_dashboard_panels

from kinescribe.cli import main
from kinescribe.cluster.code_package import CONFIG
from kinescribe.cluster.jobs import Jobs, NoAnswer
from kinescribe.cluster.label import run_label
from kinescribe.cluster.submission import SubmittedJob
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.errors import ConfigError
from kinescribe.storage.audit import check, status
from kinescribe.storage.dataset import Dataset
from tests.prometheus import prometheus
from tests.ray_head import ray_head
from tests.rows import assert_alike
from tests.videos import pan, write_video

ROOT = Path(__file__).parents[2]
CANARY = "canary-4711"
NUM_CLIPS = 12
TOTALS = {
    name: f"sum{by}(max_over_time(ray_kinescribe_{name}_total[15m]))"
    for name, by in {"clips": " by (status) ", "pairs": "", "tokens": "", "rejects": " by (code) "}.items()
}
UNSEEN = {
    "ray_node_gpus_utilization",
    "ray_memory_manager_worker_eviction_total",
    "ray_node_manager_unexpected_worker_failure_total",
}
"""What Ray exports only where there is a GPU or something went wrong."""


@contextmanager
def answering(answer: bytes | None) -> Iterator[str]:
    """The URL of a server that gives everybody this answer, or none at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    guest, _ = server.accept()
                    guests.append(guest)
                    if answer:
                        guest.recv(65536)
                        guest.sendall(answer)

        guests = list[socket.socket]()
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for guest in guests:
            guest.close()


class Shaky(Jobs):
    """Jobs of a cluster that gives these answers; None is none."""

    def __init__(self, *statuses: str | None, patience_s: float = 60.0) -> None:
        self.answers, self.patience_s, self.pending_s = list(statuses), patience_s, 0.1

    def list(self):
        return [SubmittedJob("a", "RUNNING", "label")]

    def get(self, submission_id):
        if (status := self.answers.pop(0)) is None:
            raise NoAnswer("no cluster answers")
        return SubmittedJob(submission_id, status, "label")

    async def _tail(self, submission_id, write, shown):
        return shown


def test_following_survives_a_short_outage_of_the_cluster():
    assert Shaky("RUNNING", "RUNNING", None, "SUCCEEDED").follow("a", print, print).status == "SUCCEEDED"


def test_following_ends_after_a_long_outage_with_a_remedy():
    with pytest.raises(ConfigError, match="no cluster answers; a may go on; `kinescribe jobs logs"):
        Shaky("RUNNING", "RUNNING", None, None, patience_s=0.6).follow("a", print, print)


def test_the_reason_why_a_job_does_not_start_is_shown_once():
    told = list[str]()
    Shaky("PENDING", None, "PENDING", "PENDING", "RUNNING", "SUCCEEDED").follow("a", print, told.append)
    assert told == ["a has not started yet"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "no cluster answers at .*timed out"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "the server there isn't a dashboard of Ray"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "no cluster answers at "),
    ],
)
def test_a_server_that_is_not_a_dashboard_of_ray_is_named(
    answer: bytes | None, said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("kinescribe.cluster.jobs.ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # which Jobs changes
    with answering(answer) as url, pytest.raises(ConfigError, match=said):
        Jobs(url)


@pytest.fixture(scope="module")
def head():
    with ray_head() as head:
        yield head


@pytest.fixture
def kinescribe(head, tmp_path):
    """The command line, in a folder with a big file and an environment with a secret."""
    desk = tmp_path / "desk"
    desk.mkdir()
    (desk / "secrets.yaml").write_text(CANARY)
    with (desk / "big.json").open("wb") as file:
        file.truncate(1 << 30)

    def run(*arguments, **environment):
        env = head.environment | {"PYTHONPATH": str(ROOT), "AWS_SECRET_ACCESS_KEY": CANARY} | environment
        command = [sys.executable, "-m", "kinescribe", *arguments]
        return subprocess.run(command, cwd=desk, env=env, capture_output=True, text=True, timeout=800)

    return run


def objects(dataset):
    return {path.name: path.stat().st_ino for path in Path(dataset, "data").iterdir()}


def hold(head, dataset):
    """Stop the label actor's clock where one unit is committed and others are still to label; returns it."""
    (labelling,) = wait_until(lambda: actors(head, "(LabelActor)")).values()
    labelling.suspend()  # or it might be done with all units before one can be written
    wait_until(lambda: any("__init__" not in title for title in actors(head, "(WriteActor)")))
    labelling.resume()
    wait_until(lambda: list(Path(dataset, "data").glob("*.parquet")), every_s=0.02)
    labelling.suspend()
    return labelling


def actors(head, kind):
    """The processes of such actors by their titles, which say what they are at."""
    found = {}
    for process in head.process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if kind in (title := " ".join(process.cmdline())):
                found[title] = process
    return found


def write_clips(folder):
    folder.mkdir()
    for index in range(NUM_CLIPS):
        write_video(folder / f"{index:02}.mp4", pan(50, seed=index))
    return folder


def wait_until(fact, timeout_s=400, every_s=0.5):
    """What the fact gives as soon as that is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := fact()):
        assert time.monotonic() < deadline
        time.sleep(every_s)
    return found


def dashboard_queries():
    """Every query of the dashboard, with a value for what Grafana puts into it."""
    board = json.loads((ROOT / "cluster" / "deploy" / "grafana-dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "15s").replace("$__range", "15m")


def sent_files(head):
    folders = head.folder.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*")
    return [path for folder in folders if folder.is_dir() for path in folder.rglob("*") if path.is_file()]


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_that_is_stopped_and_resumed_makes_the_rows_of_a_local_run(
    head, kinescribe, ray_here, model_folder, tmp_path
):
    clips, config = write_clips(tmp_path / "clips"), tmp_path / "run.yaml"
    config.write_text(json.dumps({"dynamics": model_folder, "clips_per_unit": 1}))
    label = ("--", "label", str(clips), "--out", str(tmp_path / "job"), "--config", str(config))
    label += ("--decode-workers", "1", "--label-workers", "1")

    first = kinescribe("submit", "--address", head.url, *label)
    assert (first.returncode, first.stderr) == (0, "submitted\n"), first.stderr
    second = kinescribe("submit", "--address", head.url, *label)
    assert (second.stdout, second.stderr) == (first.stdout, "already running: attached\n")

    held = hold(head, tmp_path / "job")
    stopped = kinescribe("jobs", "stop", first.stdout.strip(), RAY_API_SERVER_ADDRESS=head.url)
    with suppress(psutil.NoSuchProcess):
        held.resume()
    assert stopped.stdout == "STOPPED\n", stopped.stderr
    before = objects(tmp_path / "job")
    assert 0 < len(before) < NUM_CLIPS

    resumed = kinescribe("submit", "--address", head.url, "--wait", *label)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert f"/{NUM_CLIPS} clips done before" in resumed.stdout
    assert resumed.stderr.splitlines() == ["submitted", first.stdout.strip().removesuffix("1") + "2"]

    local = str(tmp_path / "local")
    one_each = Resources(decode_workers=1, label_workers=1)
    run_label(str(clips), local, LabelConfig(dynamics=model_folder, clips_per_unit=1), one_each)
    assert_alike(str(tmp_path / "job"), local)
    assert check(str(tmp_path / "job")).ok
    assert before.items() <= objects(tmp_path / "job").items()

    sent = sent_files(head)
    roots = {path.relative_to(head.folder).parts[4] for path in sent}
    assert roots == {"kinescribe", CONFIG}
    assert not [path for path in sent if CANARY.encode() in path.read_bytes()]


@pytest.mark.ray
@pytest.mark.slow
def test_a_failed_job_shows_its_exit_code_and_no_secret(head, kinescribe):
    failed = kinescribe("submit", "--address", head.url, "--wait", "label", "/nowhere", "--out", "/tmp/never")
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert "error: /nowhere does not exist; check its spelling" in failed.stdout

    listed = kinescribe("jobs", "list", "--json", RAY_API_SERVER_ADDRESS=head.url)
    job = json.loads(listed.stdout)[-1]
    assert (job["status"], job["exit_code"]) == ("FAILED", 2)
    ask = "import sys; from kinescribe.cluster.jobs import Jobs; print(Jobs(sys.argv[1]).client.list_jobs())"
    env = head.environment | {"PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", ask, head.url], env=env, capture_output=True, text=True)
    assert "/nowhere" in told.stdout, told.stderr
    assert CANARY not in told.stdout + failed.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_a_wrong_token_is_named_with_a_remedy(head, kinescribe, tmp_path):
    (tmp_path / "token").write_text("2" * 64)
    for changes in ({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}, {"RAY_AUTH_MODE": "disabled"}):
        turned_away = kinescribe("jobs", "list", "--address", head.url, **changes)
        assert turned_away.returncode == 2
        assert "asks for its token" in turned_away.stderr
        assert "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH" in turned_away.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_a_command_that_claims_a_gpu_waits_for_one(head, kinescribe):
    command = ("--gpus", "1", "evaluate", "world", "--num", "1")
    submitted = kinescribe("submit", "--address", head.url, *command)
    assert submitted.returncode == 0, submitted.stderr
    listed = kinescribe("jobs", "list", "--json", "--address", head.url)
    job = json.loads(listed.stdout)[-1]
    assert (job["submission_id"], job["status"]) == (submitted.stdout.strip(), "PENDING")
    assert "waiting for resources" in job["message"]


@pytest.mark.ray
@pytest.mark.slow
def test_an_unknown_job_is_named(head, kinescribe):
    for arguments in (["logs", "a#b"], ["logs", "--follow", "../nothing"], ["stop", ""]):
        missing = kinescribe("jobs", *arguments, "--address", head.url)
        assert missing.returncode == 2
        assert f"{arguments[-1]!r} is not a job of the cluster" in missing.stderr
        assert os.linesep not in missing.stderr.strip()


@pytest.mark.ray
@pytest.mark.slow
def test_rays_own_command_line_labels_from_a_checkout_and_the_dashboard_shows_it(
    head, model_folder, tmp_path
):
    clips, out, log = write_clips(tmp_path / "clips"), str(tmp_path / "dataset"), tmp_path / "log"
    (clips / "text.mp4").write_text("no video")
    label = ["label", str(clips), "--out", out, "--dynamics", model_folder, "--set", "clips_per_unit=1"]
    label += ["--decode-workers", "1", "--label-workers", "1"]
    submit = ["ray", "job", "submit", "--address", head.url, "--working-dir", "."]
    config = head.folder / "session_latest" / "metrics" / "prometheus" / "prometheus.yml"
    with prometheus(config, tmp_path) as server, log.open("w") as stream:
        wait_until(lambda: server.peak("up") == 1)
        before = {name: server.last(query) for name, query in TOTALS.items()}
        command = [*submit, "--", "python", "-m", "kinescribe", *label]
        job = subprocess.Popen(command, cwd=ROOT, env=head.environment, stdout=stream, stderr=stream)
        held = hold(head, out)
        # Ray Data tells of its pools every five seconds, and a rate needs two values.
        wait_until(lambda: server.peak('ray_data_num_tasks_running{operator=~".*LabelActor.*"}') > 0)
        held.resume()
        assert job.wait(timeout=600) == 0, log.read_text()

        def grown(name):
            now = server.last(TOTALS[name])
            return {label: grown for label in now if (grown := now[label] - before[name].get(label, 0))}

        wait_until(lambda: sum(grown("clips").values()) == NUM_CLIPS + 1)
        end = status(out)
        assert grown("clips") == {"kept": end.kept, "rejected": 1}
        assert grown("rejects") == end.reasons == {"unreadable": 1}
        assert grown("pairs") == {"": end.triplets}
        tokens = Dataset.open(out).scan(["action_tokens"]).to_table()["action_tokens"]
        assert grown("tokens") == {"": pc.sum(tokens).as_py()}
        assert server.peak("sum(rate(ray_kinescribe_clips_total[15s]))") > 0

        silent = [query for query in dashboard_queries() if not server.series(query)]
        assert not [query for query in silent if not any(metric in query for metric in UNSEEN)]
    rays_own = Path(default_dashboard_panels.__file__).read_text()
    assert not [metric for metric in UNSEEN if metric not in rays_own]


@pytest.mark.parametrize(
    "address",
    [
        "http://me:hunter2@127.0.0.1:9",
        "https://hunter2@127.0.0.1:9",
        "me:hunter2@127.0.0.1:9",
        "http://127.0.0.1:9?token=hunter2",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(
    address: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    submit = ["submit", "--address", address, "label", "s3://b/clips", "--out", "s3://b/out"]
    for arguments in (["jobs", "list", "--address", address], submit):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        told = capfd.readouterr()
        assert "must not contain a password" in told.err
        assert "hunter2" not in told.err + told.out
    with pytest.raises(ConfigError) as refused:
        Jobs(address)
    assert "hunter2" not in str(refused.value)
    assert os.environ["RAY_API_SERVER_ADDRESS"] == ""
