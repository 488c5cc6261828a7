"""Credentials in the environment are written nowhere: canaries are searched in all files and logs."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinescribe.storage import listing, objects
from tests.tiny_vlm import tiny_vlm
from tests.videos import pan, write_video

ROOT = Path(__file__).parents[1]
CANARY = "canary-5d1e"
SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "OPENAI_API_KEY", "HF_TOKEN")
DRIVER = """
import os, sys
from contextlib import suppress
from pathlib import Path
import psutil, ray
from ray._private.state import state
from kinescribe.cluster.label import run_label
from kinescribe.cluster.ray_session import ray_cluster
from kinescribe.reports.report import write_report
from kinescribe.schemas.config import LabelConfig, Resources
from tests.processes import below
source, out, model, folder, report = sys.argv[1:]
with ray_cluster():
    run_label(source, out, LabelConfig(dynamics=model), Resources(decode_workers=1, label_workers=1))
    seen = []
    for one in below(os.getpid(), "ray::"):
        with suppress(psutil.NoSuchProcess):
            seen += one.environ()
    assert "HF_TOKEN" in seen, "no worker could have told"
    print("jobs", state.job_table(), ray.get_runtime_context().runtime_env, state.actor_table(None))
    for path in filter(Path.is_file, Path(folder).rglob("*")):
        print("log", path.name, path.read_bytes().decode(errors="replace"))
write_report(out, report, 4)
"""


def told(file: str) -> str:
    """An object's bytes, and the values that are compressed in them."""
    data = objects.read_bytes(file)
    if not file.endswith(".parquet"):
        return data.decode()
    table = pq.read_table(pa.BufferReader(data))
    return f"{data!r} {table.schema.metadata} {table.to_pylist()}"


@pytest.mark.ray
@pytest.mark.slow
def test_secrets_of_the_environment_are_written_nowhere(bucket: str, ray_folder: str, tmp_path: Path):
    tiny_vlm().save(tmp_path / "model")
    video = write_video(tmp_path / "clip.mp4", pan(50)).read_bytes()
    for name, data in {"good.mp4": video, "broken.mp4": b"no video"}.items():
        objects.create(f"{bucket}/clips/{name}", data)
    out, report = f"{bucket}/dataset", tmp_path / "report.html"
    secrets = {name: f"{CANARY}-{name}" for name in SECRETS}
    arguments = [
        f"{bucket}/clips",
        out,
        tmp_path / "model",
        ray_folder,
        report,
    ]
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **secrets},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Entrypoint" in ended.stdout
    assert "log raylet.out" in ended.stdout
    written = {info.uri: told(info.uri) for info in listing.list_files(out)}
    assert {"run.json", "README.md", "clips.parquet"} <= {Path(name).name for name in written}
    places = {"stdout": ended.stdout, "stderr": ended.stderr, "report": report.read_text(), **written}
    assert [name for name, text in places.items() if CANARY in text] == []
