"""Credentials in the environment are written nowhere: canaries are searched in all files and logs."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinescribe.storage import listing, objects
from tests.tiny_vlm import tiny_vlm
from tests.videos import pan, write_video

ROOT = Path(__file__).parents[1]
CANARY = "canary-5d1e"
SECRETS = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "OPENAI_API_KEY",
    "HF_TOKEN",
    "RAY_AUTH_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_CLIENT_SECRET",
    "WANDB_API_KEY",
    "HTTPS_PROXY",
    "SOMETHING_ELSE",
)
WRITTEN = ("run.json", "README.md", "clips.parquet")
LEFT = ("events.out.tfevents", "config.json", "model.safetensors", "_model_states.pt")
"""Parts of the names of files that label, report, export and train leave, so that the search finds them."""
DRIVER = """
import os, sys
from contextlib import suppress
from pathlib import Path
import psutil, ray
from ray._private.state import state
from kinescribe.cluster.label import run_label
from kinescribe.cluster.ray_session import ray_cluster
from kinescribe.reports.report import write_report
from kinescribe.api import export
from kinescribe.cluster.train import run_train
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.training import WorldTraining
from tests.processes import below
source, out, model, folder, report, exported, trained = sys.argv[1:]
with ray_cluster():
    run_label(source, out, LabelConfig(dynamics=model), Resources(decode_workers=1, label_workers=1))
    run_train(WorldTraining(data=(out,), out=trained, init=model, steps=1, batch=1))
    seen = []
    for one in below(os.getpid(), "ray::"):
        with suppress(psutil.NoSuchProcess):
            seen += one.environ()
    assert "HF_TOKEN" in seen, "no worker could have told"
    print("jobs", state.job_table(), ray.get_runtime_context().runtime_env, state.actor_table(None))
    for path in filter(Path.is_file, Path(folder).rglob("*")):
        print("log", path.name, path.read_bytes().decode(errors="replace"))
write_report(out, report, 4)
export(out, exported, "hub")
"""


def told(file: str) -> str:
    """An object's bytes, and the values that are compressed in them."""
    data = objects.read_bytes(file)
    if not file.endswith(".parquet"):
        return data.decode()
    table = pq.read_table(pa.BufferReader(data))
    return f"{data!r} {table.schema.metadata} {table.to_pylist()}"


def contents(path: Path) -> str:
    """A file's bytes, and those that are compressed in it."""
    data = path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            data += b"".join(map(archive.read, archive.namelist()))
    if path.suffix == ".parquet":
        return told(str(path))
    return data.decode(errors="replace")


@pytest.mark.ray
@pytest.mark.slow
def test_secrets_of_the_environment_are_written_nowhere(bucket: str, ray_folder: str, tmp_path: Path):
    tiny_vlm().save(tmp_path / "model")
    video = write_video(tmp_path / "clip.mp4", pan(50)).read_bytes()
    for name, data in {"good.mp4": video, "broken.mp4": b"no video"}.items():
        objects.create(f"{bucket}/clips/{name}", data)
    left = tmp_path / "left"
    out, report = f"{bucket}/dataset", left / "report.html"
    secrets = {name: f"{CANARY}-{name}" for name in SECRETS} | {
        "HTTPS_PROXY": f"http://me:{CANARY}@127.0.0.1:9"
    }
    account = tmp_path / "account.json"
    account.write_text(json.dumps({"type": "service_account", "private_key": CANARY}))
    (left / "tmp").mkdir(parents=True)
    (left / "home").mkdir()
    places = {"TMPDIR": str(left / "tmp"), "HOME": str(left / "home"), "HF_HOME": str(left / "home" / "hf")}
    secrets |= {"GOOGLE_APPLICATION_CREDENTIALS": str(account), **places}
    arguments = [
        f"{bucket}/clips",
        out,
        tmp_path / "model",
        ray_folder,
        report,
        left / "export",
        left / "train",
    ]
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **secrets},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Entrypoint" in ended.stdout
    assert "log raylet.out" in ended.stdout
    written = {info.uri: told(info.uri) for info in listing.list_files(out)}
    assert set(WRITTEN) <= {Path(name).name for name in written}
    written |= {str(path): contents(path) for path in left.rglob("*") if path.is_file()}
    assert [part for part in LEFT if not any(part in name for name in written)] == []
    places = {"stdout": ended.stdout, "stderr": ended.stderr, "report": report.read_text(), **written}
    assert [name for name, text in places.items() if CANARY in text] == []
