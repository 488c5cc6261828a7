"""Kills parts of labelling runs at random times, resumes them, and compares the rows with an undisturbed run.

    python -m tests.chaos --num 50 --seed 1

Uses real videos, decoders and actors, and a model of a few thousand weights. Prints every kill, and how many
rows were lost, doubled or different. `make chaos` runs it.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from kinescribe.schemas.outcomes import Status
from kinescribe.storage.audit import check, outcomes
from kinescribe.storage.dataset import Dataset
from tests.processes import below
from tests.tiny_vlm import tiny_vlm
from tests.videos import pan, write_video

ROOT = Path(__file__).parents[1]
NUM_CLIPS = 12
MOST_KILLS = 5
"""Of one dataset, and at most one of each kind. A clip is rightly rejected if three actors die on its unit,
or its decoder dies twice, and a slow machine leaves time for that."""
SPARE_STARTS = 5
"""On a busy machine Ray may take too long to start, which isn't what is tested here."""
END_S = 1200.0
LOG_CHARACTERS = 5000
DRIVER = """
import sys
from kinescribe.cluster.label import run_label
from kinescribe.schemas.config import LabelConfig, Resources
source, out, model = sys.argv[1:]
config = LabelConfig(dynamics=model, clips_per_unit=2)
run_label(source, out, config, Resources(decode_workers=1, label_workers=1))
"""
VICTIMS = {
    "decode child": "kinescribe.media.decode_worker",
    "decode actor": "(DecodeActor)",
    "label actor": "(LabelActor)",
    "write actor": "(WriteActor)",
    "attempt counter": "Attempts",
    "node": "raylet/raylet",
    "driver": "(DecodeActor)",
    "all of Ray": "(LabelActor)",
}
"""Part of the command line of the process to kill; for the driver and all of Ray, of the one to wait for."""
KINDS = sorted(VICTIMS)
Start = Callable[[], subprocess.Popen[bytes]]


@dataclass
class Tally:
    """The rows of all datasets compared with the expected ones, and what was killed."""

    datasets: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.different or self.problems)

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {number}" for kind, number in self.kills.most_common())
        return (
            f"{self.datasets} datasets, {self.kills.total()} kills ({kinds}): "
            f"lost = {self.lost}, doubled = {self.doubled}, different = {self.different}"
        )


def chaos(folder: Path, num: int, seed: int) -> Tally:
    """Label the same clips into one dataset after another, until `num` processes were killed."""
    draw, tally = random.Random(seed), Tally()
    start = _starter(folder)
    assert start("undisturbed").wait(END_S) == 0, (folder / "log").read_text()
    expected = _rows(folder / "undisturbed")
    commits = [path.stat().st_mtime for path in (folder / "undisturbed" / "data").iterdir()]
    busy_s = max(commits) - min(commits)
    while tally.kills.total() < num:
        name = f"disturbed-{tally.datasets}"
        most = min(MOST_KILLS, num - tally.kills.total())
        for kind in _disturb(lambda name=name: start(name), most, busy_s, draw, folder / "log"):
            print(f"seed {seed}, dataset {tally.datasets}: killed {kind}", flush=True)
            tally.kills[kind] += 1
        _compare(folder / name, expected, tally)
        print(tally, *tally.problems, sep="\n  ", flush=True)
    return tally


def _starter(folder: Path) -> Callable[[str], subprocess.Popen[bytes]]:
    """A function that starts or resumes labelling into a folder of that name."""
    model, clips = folder / "model", folder / "clips"
    tiny_vlm().save(model)
    clips.mkdir()
    for index in range(NUM_CLIPS):
        write_video(clips / f"{index:02}.mp4", pan(50, seed=index))

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", DRIVER, str(clips), str(folder / name), str(model)]
        with (folder / "log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)

    return start


def _disturb(start: Start, most: int, busy_s: float, draw: random.Random, log: Path) -> Iterator[str]:
    """Run until success, killing at most `most` processes at random times. Yields the kind of each.

    A run that died is restarted at once, while processes that it left may still be working.
    """
    kinds = draw.sample(KINDS, most)
    seen: set[psutil.Process] = set()
    for _ in range(most + SPARE_STARTS):
        driver = start()
        while kinds and driver.poll() is None:
            if _kill(driver, kinds[-1], draw.uniform(0, busy_s / 4), seen):
                yield kinds.pop()
        if driver.wait(END_S) == 0:
            break
    else:
        end = log.read_text(errors="replace")[-LOG_CHARACTERS:]
        raise AssertionError(f"the run did not succeed in {most + SPARE_STARTS} starts: {end}")
    _, left = psutil.wait_procs(seen, timeout=END_S)
    assert not left, left


def _kill(driver: subprocess.Popen[bytes], kind: str, delay_s: float, seen: set[psutil.Process]) -> bool:
    """Kill a process of that kind `delay_s` after it has appeared; False if the run ended before."""
    deadline = None
    while driver.poll() is None:
        processes = _processes(driver)
        seen.update(processes)
        victims = below(driver.pid, re.escape(VICTIMS[kind]))
        if victims and deadline is None:
            deadline = time.monotonic() + delay_s
        if victims and deadline and time.monotonic() >= deadline:
            for process in {"driver": processes[:1], "all of Ray": processes}.get(kind, victims[:1]):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            return True
        time.sleep(0.05)
    return False


def _processes(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The driver and all its descendants."""
    try:
        return [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _rows(dataset: Path) -> dict[str, dict[str, object]]:
    rows = Dataset.open(str(dataset)).scan().to_table().to_pylist()
    return {row["triplet_id"]: row for row in rows}


def _compare(dataset: Path, expected: dict[str, dict[str, object]], tally: Tally) -> None:
    found = Dataset.open(str(dataset)).scan().to_table().to_pylist()
    counts = Counter(row["triplet_id"] for row in found)
    tally.datasets += 1
    tally.lost += len(expected.keys() - counts.keys())
    tally.doubled += counts.total() - len(counts)
    tally.different += sum(expected.get(row["triplet_id"]) != row for row in found)
    tally.problems += check(str(dataset)).problems
    ends = outcomes(Dataset.open(str(dataset)).footers())
    tally.problems += [f"{end.reason}: {end.message}" for end in ends if end.status is Status.REJECTED]


def main() -> None:
    options = argparse.ArgumentParser(description="Kill parts of labelling runs and compare what they made.")
    options.add_argument("--num", type=int, default=50, help="how many processes to kill")
    options.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = options.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kinescribe-chaos-") as folder:
        tally = chaos(Path(folder), given.num, given.seed)
    sys.exit(0 if tally.is_clean else 1)


if __name__ == "__main__":
    main()
