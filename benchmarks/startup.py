"""Times `kinescribe --help` against a bare interpreter, and the label of one clip, part by part.

Prints a line of JSON for each.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kinescribe.simulation.clips import write_clips

REPEATS = 15
LABEL_REPEATS = 3
COMMANDS = {"help_s": ["-m", "kinescribe", "--help"], "python_s": ["-c", "pass"]}
PARTS = {
    "plan_s": "starting Ray",
    "ray_s": "cores, ",
    "loading_s": "labelling",
    "labelling_s": "1/1 clips, ",
    "end_s": None,
}
"""The line on stderr with which each part ends; the last ends with the process."""


def seconds(arguments: list[str]) -> float:
    """Wall time of one interpreter with these arguments."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def label_parts(clips: Path, out: Path) -> dict[str, float]:
    """Wall time of each part of labelling one clip, and of all."""
    command = [sys.executable, "-m", "kinescribe", "label", str(clips), "--out", str(out), "--json"]
    started = last = time.perf_counter()
    parts = dict[str, float]()
    ends = iter(PARTS.items())
    part, marker = next(ends)
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if marker and marker in line:
                now = time.perf_counter()
                parts[part], last = now - last, now
                part, marker = next(ends)
    assert process.returncode == 0, process.returncode
    assert marker is None, f"no line with {marker!r}"
    parts[part] = time.perf_counter() - last
    return parts | {"total_s": time.perf_counter() - started}


def medians(times: list[dict[str, float]]) -> dict[str, float]:
    """The median of each value."""
    return {name: round(statistics.median(turn[name] for turn in times), 3) for name in times[0]}


def report(benchmark: str, values: dict[str, float]) -> None:
    """Print a line of JSON."""
    machine = f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores"
    print(json.dumps({"benchmark": benchmark, "machine": machine, **values}), flush=True)


def main() -> None:
    # In turns, so that a busy machine slows both alike.
    times = [{name: seconds(command) for name, command in COMMANDS.items()} for _ in range(REPEATS)]
    help_times = medians(times)
    report("startup", help_times | {"ratio": round(help_times["help_s"] / help_times["python_s"], 1)})
    with tempfile.TemporaryDirectory(prefix="kinescribe-") as folder:
        write_clips(Path(folder), 1, "test", 0)
        clips = Path(folder, "clips")
        labels = [label_parts(clips, Path(folder, f"dataset-{turn}")) for turn in range(LABEL_REPEATS)]
    report("label of one clip", medians(labels))


if __name__ == "__main__":
    main()
