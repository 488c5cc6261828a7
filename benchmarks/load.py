"""Large datasets and inputs on the command line: seconds and memory of each command; one line of JSON.

- `commands`: each command that reads a dataset, over datasets of several numbers of units, with the exponent
  of growth from the smallest to the largest: 1 is linear.
- `windows`: a dry run over windows of one file.
- `clips`: a run over tiny clips.

Memory is the peak of the command's own process. Each command runs once.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from PIL import Image

from kinescribe.labeling.units import plan_units
from kinescribe.schemas.clips import Clip, WorkUnit, stable_id
from kinescribe.schemas.dataset import triplet_schema
from kinescribe.schemas.outcomes import ClipOutcome, Status
from kinescribe.simulation.clips import write_clips
from kinescribe.storage.plan import plan_digest, write_plan
from kinescribe.storage.run import Run, bind
from kinescribe.storage.shards import write_unit

GRID = (4, 4)
SCHEMA = triplet_schema("codec", GRID)
NUM_CLASSES = 700
NUM_FILES = 64
"""Different videos; the other clips are links to them."""
COMMANDS = {
    "status": ["status", "{dataset}", "--json"],
    "check": ["check", "{dataset}", "--json"],
    "report": ["report", "{dataset}", "--out", "{folder}/report.html"],
    "curate": ["curate", "{dataset}", "--out", "{folder}/selection.parquet", "--top-k", "1000"],
    "export hub": ["export", "hub", "{dataset}", "--out", "{folder}/hub"],
    "export webdataset": ["export", "webdataset", "{dataset}", "--out", "{folder}/web"],
}


def image(number: int) -> dict[str, Any]:
    """A small JPEG."""
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64)).save(file, "JPEG")
    return {"bytes": file.getvalue(), "path": None}


def commit(job: tuple[str, WorkUnit]) -> None:
    """Write a unit with one triplet for each of its clips."""
    dataset, unit = job
    tokens = GRID[0] * GRID[1]
    rows = [
        {
            "triplet_id": stable_id(clip.clip_id, 0),
            "clip_id": clip.clip_id,
            "video": clip.uri,
            "action_class": clip.action_class,
            "source": image(0),
            "target": image(1),
            "source_time_s": 0.0,
            "target_time_s": 1.0,
            "action": "turn the box",
            "action_logprob": -0.5 - int(clip.clip_id[:4], 16) / 65536,
            "action_tokens": 4,
            "finish_reason": "stop",
            "importance": [np.float16(1)] * tokens,
            "source_codes": [0] * tokens,
            "target_codes": [1] * tokens,
            "motion": 1.0,
        }
        for clip in unit.clips
    ]
    ends = [ClipOutcome(clip.clip_id, Status.KEPT, 1) for clip in unit.clips]
    write_unit(dataset, unit, pa.Table.from_pylist(rows, schema=SCHEMA), ends)


def write_dataset(dataset: str, num_units: int) -> None:
    """A dataset of units with one clip each."""
    clips = [
        Clip(stable_id(index), f"/videos/{index}.mp4", f"class {index % NUM_CLASSES}", size_bytes=1000)
        for index in range(num_units)
    ]
    run = Run("0", {}, {}, "codec", GRID, plan_digest(clips))
    units = plan_units(clips, 1, run.fingerprint)
    bind(dataset, run)
    write_plan(dataset, units)
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        for _ in pool.imap_unordered(commit, ((dataset, unit) for unit in units), chunksize=100):
            pass


def measure(command: Sequence[str]) -> dict[str, Any]:
    """Seconds of `kinescribe COMMAND`, and the peak memory of its own process in GiB."""
    started, peak_kib = time.perf_counter(), 0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "kinescribe", *command], stdout=subprocess.DEVNULL, stderr=said
        )
        while process.poll() is None:
            # `resource` would report the memory of this process if that was larger.
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    peak_kib = int(line.split()[1])
            time.sleep(0.02)
        seconds = time.perf_counter() - started
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed: {said.read().decode()[-2000:]}")
    return {"seconds": round(seconds, 2), "peak_gib": round(peak_kib / (1 << 20), 3)}


def over_datasets(folder: Path, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Every command over a dataset of each size."""
    found = []
    for size in sizes:
        dataset, out = f"{folder}/dataset", folder / "out"
        write_dataset(dataset, size)
        for name, words in COMMANDS.items():
            out.mkdir()
            command = [word.format(dataset=dataset, folder=out) for word in words]
            found.append({"command": name, "units": size} | measure(command))
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
            shutil.rmtree(out)
        shutil.rmtree(dataset)
    return found


def growth(rows: Sequence[dict[str, Any]], command: str, figure: str) -> float:
    """The exponent of a command's figure from the smallest to the largest dataset."""
    first, *_, last = sorted((row for row in rows if row["command"] == command), key=lambda row: row["units"])
    return round(math.log(last[figure] / first[figure]) / math.log(last["units"] / first["units"]), 2)


def over_windows(folder: Path, num: int) -> dict[str, Any]:
    """A dry run over windows of one file."""
    clip = next((folder / "videos").rglob("*.mp4"))
    starts = pl.int_range(num, eager=True) / 100
    rows = pl.DataFrame({"start_s": starts, "end_s": starts + 0.5}).with_columns(uri=pl.lit(str(clip)))
    rows.write_parquet(folder / "videos" / "windows.parquet")
    command = ["label", f"{folder}/videos/windows.parquet", "--out", f"{folder}/windows", "--dry-run"]
    return {"windows": num} | measure(command)


def over_clips(folder: Path, num: int) -> dict[str, Any]:
    """A run over tiny clips."""
    files = sorted((folder / "videos" / "clips").rglob("*.mp4"))
    many = folder / "many"
    many.mkdir()
    for index in range(num):
        (many / f"{index}.mp4").hardlink_to(files[index % len(files)])
    return {"clips": num} | measure(["label", str(many), "--out", f"{folder}/labelled"])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--units", nargs="+", type=int, default=[10_000, 30_000, 100_000])
    options.add_argument("--windows", type=int, default=20_000)
    options.add_argument("--clips", type=int, default=10_000)
    chosen = options.parse_args()
    figures: dict[str, Any] = {
        "benchmark": "load",
        "machine": f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores",
    }
    with tempfile.TemporaryDirectory(prefix="kinescribe-") as name:
        folder = Path(name)
        write_clips(folder / "videos", NUM_FILES, "test", 0)
        figures["windows"] = over_windows(folder, chosen.windows)
        rows = over_datasets(folder, chosen.units)
        figures["commands"] = rows
        figures["growth"] = {
            f"{command}, {figure}": growth(rows, command, figure)
            for command in COMMANDS
            for figure in ("seconds", "peak_gib")
        }
        figures["clips"] = over_clips(folder, chosen.clips)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
