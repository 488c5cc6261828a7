"""The driver of `kinescribe label` at scale: planning, resuming, listing and scheduling; one line of JSON.

Each row comes from its own process: wall seconds, processor seconds (more reliable on a busy machine), and
peak resident memory.

- `plan` lists a manifest and binds a new dataset to it: everything that a run does before its first unit.
- `resume` is the same with 90 % of the units committed.
- `list` asks an S3 server, in its own process, which units are committed. The server is moto, a mock that
  reads the whole bucket for each page of a thousand names; `--s3` names a folder on another server, which
  is filled first.
- `schedule` has many clips pending in Ray and sends some units through sessions that do nothing. This
  leaves the time that Ray and the driver take for a unit, and the memory of the pending ones.

`growth` is the exponent over the sizes: 1 is linear; 0 means that a unit costs the same for any number of
pending units. The number of label actors that one driver can keep busy follows from the seconds that a unit
takes to label, which a short real run measures.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from kinescribe.cluster.label import run_label
from kinescribe.cluster.pipeline import Sessions
from kinescribe.cluster.progress import LabelProgress
from kinescribe.labeling.extract import PairExtractor
from kinescribe.schemas.clips import Clip, ExtractedClip, stable_id
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.outcomes import ClipOutcome, DropReason, Receipt, Status
from kinescribe.storage import objects, uri
from kinescribe.storage.plan import Plan, plan_uri
from kinescribe.storage.shards import committed_units, unit_uri
from kinescribe.storage.threads import map_in_threads

CONFIG = LabelConfig()
ROWS = 1_000_000
COMMITTED = 0.9
BUCKET = "units-{}"


def write_manifest(path: Path, num_clips: int) -> None:
    """Clips of ten seconds in 700 classes, as in Kinetics; the files do not exist."""
    writer = None
    for first in range(0, num_clips, ROWS):
        index = pl.int_range(first, min(first + ROWS, num_clips), eager=True).alias("index")
        rows = index.to_frame().select(
            uri=pl.format("s3://corpus/train/class {}/{}.mp4", pl.col("index") % 700, "index"),
            action_class=pl.format("class {}", pl.col("index") % 700),
            start_s=pl.lit(0.0),
            end_s=pl.lit(10.0),
        )
        writer = writer or pq.ParquetWriter(path, rows.to_arrow().schema)
        writer.write_table(rows.to_arrow())
    assert writer
    writer.close()


class Enough(Exception):
    """Raised when the measurement is over."""


class Meter(LabelProgress):
    """Records when units were committed, and ends the run after `num_units`."""

    def __init__(self, num_units: int) -> None:
        super().__init__()
        self.num_units = num_units
        self.wall, self.processor = list[float](), list[float]()

    def start(self, total: int, done: int) -> None:
        self._end_if_enough()

    def update(self, receipt: Receipt) -> None:
        self.wall.append(time.perf_counter())
        self.processor.append(time.process_time())
        self._end_if_enough()

    def _end_if_enough(self) -> None:
        if len(self.wall) == self.num_units:
            raise Enough


class StubExtractor(PairExtractor):
    """Reports every clip as static without reading it."""

    def __init__(self, config: object, root: str) -> None: ...
    def close(self) -> None: ...
    def duration_s(self, clip: Clip) -> float | None:
        return None

    def extract(self, clip: Clip) -> ExtractedClip:
        return ExtractedClip(
            clip, outcome=ClipOutcome(clip.clip_id, Status.DROPPED, reason=DropReason.STATIC)
        )


def run(manifest: str, out: str, num_units: int) -> Meter:
    """A run that ends after a number of units."""
    meter = Meter(num_units)
    try:
        run_label(manifest, out, CONFIG, Resources(), meter, Sessions(StubExtractor))
    except Enough:
        return meter
    raise AssertionError(f"there were no {num_units} units")


def plan(manifest: str, out: str) -> dict[str, float]:
    run(manifest, out, 0)
    return {}


def list_units(dataset: str) -> dict[str, float]:
    return {"units": len(committed_units(dataset))}


def schedule(manifest: str, out: str, num_units: str) -> dict[str, float]:
    """Milliseconds for each of the last two thirds of the units, which excludes the start-up."""
    meter = run(manifest, out, int(num_units))
    steady = {"ms_per_unit": meter.wall, "driver_ms_per_unit": meter.processor}
    first = len(meter.wall) // 3
    return {
        name: 1000 * (times[-1] - times[first]) / (len(times) - 1 - first) for name, times in steady.items()
    }


def service(num_clips: str) -> dict[str, float]:
    """Seconds of one core for a unit, from a real run."""
    # Imported here, because the driver's memory is measured without them.
    from kinescribe.cluster.estimate import estimate_run
    from kinescribe.simulation.clips import write_clips

    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder), int(num_clips), "test", 0)
        source, num = f"{folder}/clips", int(num_clips)
        estimate, _ = estimate_run(source, CONFIG, Resources(), num, 0, None, Sessions())
    seconds = {stage: value * CONFIG.clips_per_unit / num for stage, value in estimate.stage_s.items()}
    return {f"{stage}_s": value for stage, value in seconds.items()}


def serve(port: str, *sizes: str) -> dict[str, float]:
    """An S3 server without request logs, with a bucket for the dataset of each size."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for size in map(int, sizes):
        store.create_bucket(BUCKET.format(size), "us-east-1")
        for unit in range(size):
            store.put_object(BUCKET.format(size), f"dataset/data/{stable_id(unit)}.parquet", b"")
    ThreadedMotoServer("127.0.0.1", int(port), verbose=False).start()
    while True:
        time.sleep(3600)


SIDES: dict[str, Callable[..., dict[str, float]]] = {
    one.__name__: one for one in (plan, list_units, schedule, service, serve)
}


def run_side(side: str, arguments: Sequence[str]) -> None:
    """Run one side in this process."""
    before, started = time.process_time(), time.perf_counter()
    figures = SIDES[side](*arguments)
    figures["seconds"] = time.perf_counter() - started
    figures["cpu_s"] = time.process_time() - before
    figures["peak_gib"] = peak_gib()
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def peak_gib() -> float:
    """Peak memory of this process; `resource` would report the parent's if that was larger."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / (1 << 20)


def measure(side: str, *arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, "--side", side, *map(str, arguments)]
    return json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
    )


def commit_units(dataset: str) -> int:
    """Create empty objects for 90 % of the planned units; only their names are read."""
    units = list(Plan(plan_uri(dataset)).clips_by_unit)
    done = units[: int(COMMITTED * len(units))]
    Path(dataset, "data").mkdir()
    for unit in done:
        Path(unit_uri(dataset, unit)).touch()
    return len(done)


def planning(folder: Path, sizes: Sequence[int], resumed: int) -> dict[str, list[dict[str, float]]]:
    """Plan each size, and resume those of at most `resumed` clips."""
    found: dict[str, list[dict[str, float]]] = {"plan": [], "resume": []}
    for size in sizes:
        manifest, out = folder / f"{size}.parquet", f"{folder}/{size}"
        write_manifest(manifest, size)
        found["plan"].append({"clips": size} | measure("plan", manifest, out))
        if size <= resumed:
            done = commit_units(out)
            found["resume"].append({"clips": size, "committed": done} | measure("plan", manifest, out))
        manifest.unlink()
        shutil.rmtree(out)
    return found


def scheduling(folder: Path, sizes: Sequence[int], num_units: int) -> list[dict[str, float]]:
    found = []
    for size in sizes:
        manifest, out = folder / f"{size}.parquet", folder / f"ray-{size}"
        write_manifest(manifest, size)
        found.append({"clips": size, "scheduled": num_units} | measure("schedule", manifest, out, num_units))
    return found


def fill(dataset: str, num_units: int) -> str:
    """Create the dataset with a number of empty objects."""
    units = {stable_id(unit) for unit in range(num_units)} - committed_units(dataset)
    for _ in map_in_threads(lambda unit: objects.create(unit_uri(dataset, unit), b""), units):
        pass
    return dataset


def listing(sizes: Sequence[int], folder: str | None) -> list[dict[str, float]]:
    if folder:
        datasets = [fill(uri.join(folder, str(size)), size) for size in sizes]
        return [measure("list_units", dataset) for dataset in datasets]
    with s3_server(sizes):
        return [measure("list_units", f"s3://{BUCKET.format(size)}/dataset") for size in sizes]


@contextmanager
def s3_server(sizes: Sequence[int]) -> Generator[None]:
    """Start the server of `serve`, and set the environment for child processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, __file__, "--side", "serve", *map(str, (port, *sizes))])
    keys = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", **keys}
    try:
        while True:
            assert server.poll() is None, "the S3 server ended"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield
    finally:
        server.kill()
        server.wait()


def growth(rows: Sequence[dict[str, float]], size: str, figure: str) -> float:
    """The exponent of a figure from the smallest to the largest size."""
    first, last = rows[0], rows[-1]
    return round(math.log(last[figure] / first[figure]) / math.log(last[size] / first[size]), 2)


def draw(figures: dict[str, Any], path: Path) -> None:
    """Plot seconds and memory over the sizes on logarithmic axes, where linear growth has slope one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained", dpi=130)
    left, right = figure.subplots(1, 2)
    labels = {
        "plan": "plan",
        "resume": "resume at 90 %",
        "list": "list units on S3",
        "schedule": "units in Ray",
    }
    for name, label in labels.items():
        rows = figures[name]
        sizes = [row.get("clips", row.get("units", 0) * CONFIG.clips_per_unit) for row in rows]
        if name != "schedule":
            left.plot(
                sizes, [row["cpu_s"] for row in rows], "o-", label=f"{label}: {figures['growth'][name]}"
            )
        right.plot(sizes, [row["peak_gib"] for row in rows], "o-", label=label)
    left.set(ylabel="seconds of the processor", yscale="log")
    left.legend(frameon=False, title="exponent of growth")
    right.set(ylabel="peak memory of the driver, GiB", ylim=(0, None))
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set(xlabel=f"clips, {CONFIG.clips_per_unit} to a unit", xscale="log")
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(figures["machine"])
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", nargs="+", type=int, default=[10**5, 3 * 10**5, 10**6, 10**7], help="clips")
    parser.add_argument("--resume", type=int, default=10**6, help="the most clips to resume")
    parser.add_argument("--list", nargs="+", type=int, default=[10**4, 3 * 10**4, 10**5], help="units on S3")
    parser.add_argument("--s3", help="a folder on your own server, s3://BUCKET/FOLDER")
    parser.add_argument("--schedule", nargs="+", type=int, default=[10**4, 10**5, 10**6], help="clips in Ray")
    parser.add_argument("--units", type=int, default=300, help="units that go through Ray")
    parser.add_argument("--service", type=int, default=64, help="simulated clips of the real run")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    machine = f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores"
    figures: dict[str, Any] = {"benchmark": "scale", "machine": machine}
    with tempfile.TemporaryDirectory(prefix="kinescribe-") as folder:
        figures |= planning(Path(folder), options.plan, options.resume)
        figures["schedule"] = scheduling(Path(folder), options.schedule, options.units)
    figures["list"] = listing(options.list, options.s3)
    figures["growth"] = {name: growth(figures[name], "clips", "cpu_s") for name in ("plan", "resume")} | {
        "list": growth(figures["list"], "units", "cpu_s"),
        "schedule": growth(figures["schedule"], "clips", "driver_ms_per_unit"),
    }
    figures["service"] = measure("service", options.service)
    driver_s = figures["schedule"][-1]["driver_ms_per_unit"] / 1000
    figures["label_actors_kept_busy"] = int(figures["service"]["label_s"] / driver_s)
    print(json.dumps(figures))
    if options.plot:
        draw(figures, options.plot)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        run_side(sys.argv[2], sys.argv[3:])
    else:
        main()
