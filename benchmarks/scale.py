"""The driver of `kinescribe label` at scale: planning, resuming, listing and scheduling; one line of JSON.

Each figure is of a process of its own: seconds, and the peak of its resident memory. `plan` lists a
manifest and binds a new dataset to it; `resume` does so where 90 % of the units are committed; `list` asks
an S3 server, also a process, which units are; `schedule` sends units through Ray to sessions that do
nothing, so that what is left is what Ray and the driver take for one. How many workers a driver keeps busy
follows from what a unit takes on this machine (a short real run, `cluster/sample.py`). `growth` is the
exponent of the time: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
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

from schemas.clips import Clip, ExtractedClip
from schemas.config import LabelConfig, Resources
from schemas.outcomes import ClipOutcome, DropReason, Receipt, Status

CONFIG = LabelConfig()
ROWS = 1_000_000
COMMITTED = 0.9
BUCKET = "units-{}"


def write_manifest(path: Path, num_clips: int) -> None:
    """Clips of ten seconds in 700 classes, as in Kinetics; their files are not there."""
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


class Planned(Exception):
    """Everything before the first unit is done."""


class Meter:
    """A `Progress` that notes when units were committed, or stops before the first of them."""

    def __init__(self, only_plan: bool) -> None:
        self.only_plan = only_plan
        self.committed: list[float] = []

    def start(self, total: int, done: int) -> None:
        if self.only_plan:
            raise Planned(f"{done} of {total}")

    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...
    def update(self, receipt: Receipt) -> None:
        self.committed.append(time.perf_counter())


class StubExtractor:
    """Finds every clip static, without looking."""

    def __init__(self, config: object, root: str) -> None: ...
    def close(self) -> None: ...
    def duration_s(self, clip: Clip) -> float | None:
        return None

    def extract(self, clip: Clip) -> ExtractedClip:
        return ExtractedClip(
            clip, outcome=ClipOutcome(clip.clip_id, Status.DROPPED, reason=DropReason.STATIC)
        )


def plan(manifest: str, out: str) -> dict[str, float]:
    """Everything that a run does before its first unit."""
    from cluster.label import Sessions, run_label

    meter, started = Meter(only_plan=True), time.perf_counter()
    try:
        run_label(manifest, out, CONFIG, Resources(), meter, Sessions(StubExtractor))
    except Planned:
        return {"seconds": time.perf_counter() - started}
    raise AssertionError("nothing was left to do")


def list_units(dataset: str) -> dict[str, float]:
    from storage.shards import committed_units

    started = time.perf_counter()
    units = committed_units(dataset)
    return {"seconds": time.perf_counter() - started, "units": len(units)}


def schedule(manifest: str, out: str) -> dict[str, float]:
    """The rate of the last two thirds of the units, so that what starts up does not count."""
    from cluster.label import Sessions, run_label

    meter = Meter(only_plan=False)
    run_label(manifest, out, CONFIG, Resources(), meter, Sessions(StubExtractor))
    steady = meter.committed[len(meter.committed) // 3 :]
    seconds = (steady[-1] - steady[0]) / (len(steady) - 1)
    return {"seconds": seconds * len(meter.committed), "ms_per_unit": 1000 * seconds}


def service(num_clips: str) -> dict[str, float]:
    """Seconds that one core is at a unit, measured by a real run."""
    from cluster.label import Sessions
    from cluster.sample import estimate_run
    from evaluation.clips import write_clips

    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder), int(num_clips), "test", 0)
        source, num = f"{folder}/clips", int(num_clips)
        estimate, _ = estimate_run(source, CONFIG, Resources(), num, 0, None, Sessions())
    seconds = {stage: value * CONFIG.clips_per_unit / num for stage, value in estimate.stage_s.items()}
    return {f"{stage}_s": value for stage, value in seconds.items()}


def serve(port: str, *sizes: str) -> dict[str, float]:
    """An S3 server with a dataset of each size in a bucket of its own."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for size in map(int, sizes):
        store.create_bucket(BUCKET.format(size), "us-east-1")
        for unit in range(size):
            store.put_object(BUCKET.format(size), f"dataset/data/{unit:032x}.parquet", b"")
    ThreadedMotoServer("127.0.0.1", int(port), verbose=False).start()
    while True:
        time.sleep(3600)


SIDES: dict[str, Callable[..., dict[str, float]]] = {
    one.__name__: one for one in (plan, list_units, schedule, service, serve)
}


def run_side(side: str, arguments: Sequence[str]) -> None:
    """What a child does. Where others use the machine, its processor time says what the wall's would be."""
    before = time.process_time()
    figures = SIDES[side](*arguments)
    figures["cpu_s"] = time.process_time() - before
    figures["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


def measure(side: str, *arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, "--side", side, *map(str, arguments)]
    return json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
    )


def commit_units(dataset: str) -> int:
    """Objects without content for 90 % of the planned units; only their names are asked for."""
    from storage.run import planned_units
    from storage.shards import unit_uri

    units = list(planned_units(dataset))
    done = units[: int(COMMITTED * len(units))]
    Path(dataset, "data").mkdir()
    for unit in done:
        Path(unit_uri(dataset, unit)).touch()
    return len(done)


def planning(folder: Path, sizes: Sequence[int], resumed: int) -> dict[str, list[dict[str, float]]]:
    """Planning each size, and resuming those of at most `resumed` clips."""
    found: dict[str, list[dict[str, float]]] = {"plan": [], "resume": []}
    for size in sizes:
        manifest, out = folder / f"{size}.parquet", f"{folder}/{size}"
        write_manifest(manifest, size)
        found["plan"].append({"clips": size} | measure("plan", manifest, out))
        if size <= resumed:
            done = commit_units(out)
            found["resume"].append({"clips": size, "committed": done} | measure("plan", manifest, out))
        subprocess.run(["rm", "-r", out, manifest], check=True)
    return found


def scheduling(folder: Path, sizes: Sequence[int]) -> list[dict[str, float]]:
    found = []
    for size in sizes:
        manifest = folder / f"{size}.parquet"
        write_manifest(manifest, size)
        units = math.ceil(size / CONFIG.clips_per_unit)
        found.append({"clips": size, "units": units} | measure("schedule", manifest, folder / f"ray-{size}"))
    return found


def listing(sizes: Sequence[int]) -> list[dict[str, float]]:
    with s3_server(sizes):
        return [measure("list_units", f"s3://{BUCKET.format(size)}/dataset") for size in sizes]


@contextmanager
def s3_server(sizes: Sequence[int]) -> Generator[None]:
    """The server of `serve`, in the environment of the children that start meanwhile."""
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


def growth(rows: Sequence[dict[str, float]], size: str) -> float:
    """The exponent of the time from the smallest to the largest size."""
    first, last = rows[0], rows[-1]
    return round(math.log(last["seconds"] / first["seconds"]) / math.log(last[size] / first[size]), 2)


def draw(figures: dict[str, Any], path: Path) -> None:
    """Seconds and memory over the sizes, on axes of logarithms, where what is linear rises by one in one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained", dpi=130)
    left, right = figure.subplots(1, 2)
    labels = {
        "plan": "plan",
        "resume": "resume at 90 %",
        "schedule": "units through Ray",
        "list": "list units on S3",
    }
    for name, label in labels.items():
        rows = figures[name]
        sizes = [row.get("clips", row.get("units", 0) * CONFIG.clips_per_unit) for row in rows]
        left.plot(
            sizes, [row["seconds"] for row in rows], "o-", label=f"{label}, growth {figures['growth'][name]}"
        )
        right.plot(sizes, [row["peak_gib"] for row in rows], "o-", label=label)
    left.set(ylabel="seconds", yscale="log")
    right.set(ylabel="peak memory of the driver, GiB", ylim=(0, None))
    for axes in (left, right):
        axes.set(xlabel=f"clips, {CONFIG.clips_per_unit} to a unit", xscale="log")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.suptitle(figures["machine"])
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--plan", nargs="+", type=int, default=[100_000, 300_000, 1_000_000, 10_000_000], help="clips"
    )
    parser.add_argument("--resume", type=int, default=1_000_000, help="the most clips to resume")
    parser.add_argument("--list", nargs="+", type=int, default=[10_000, 30_000, 100_000], help="units on S3")
    parser.add_argument(
        "--schedule", nargs="+", type=int, default=[8_000, 16_000, 32_000], help="clips through Ray"
    )
    parser.add_argument("--service", type=int, default=64, help="simulated clips of the real run")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    machine = f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores"
    figures: dict[str, Any] = {"benchmark": "scale", "machine": machine}
    with tempfile.TemporaryDirectory(prefix="kinescribe-") as folder:
        figures |= planning(Path(folder), options.plan, options.resume)
        figures["schedule"] = scheduling(Path(folder), options.schedule)
    figures["list"] = listing(options.list)
    sizes = {"plan": "clips", "resume": "clips", "schedule": "units", "list": "units"}
    figures["growth"] = {name: growth(figures[name], size) for name, size in sizes.items()}
    figures["service"] = measure("service", options.service)
    busy_s = figures["service"]["label_s"]
    figures["label_workers_kept_busy"] = int(1000 * busy_s / figures["schedule"][-1]["ms_per_unit"])
    print(json.dumps(figures))
    if options.plot:
        draw(figures, options.plot)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        run_side(sys.argv[2], sys.argv[3:])
    else:
        main()
