"""How long `kinescribe --help` takes, against a bare interpreter in the same run; one line of JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time

REPEATS = 15
COMMANDS = {"help_s": ["-m", "kinescribe", "--help"], "python_s": ["-c", "pass"]}


def seconds(arguments: list[str]) -> float:
    """Wall time of one interpreter with these arguments."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    # In turns, so that a busy machine slows both equally.
    times = [{name: seconds(command) for name, command in COMMANDS.items()} for _ in range(REPEATS)]
    medians = {name: round(statistics.median(turn[name] for turn in times), 3) for name in COMMANDS}
    print(
        json.dumps(
            {
                "benchmark": "startup",
                "machine": f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores",
                **medians,
                "ratio": round(medians["help_s"] / medians["python_s"], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
