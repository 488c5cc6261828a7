"""The metrics of a run, as TensorBoard events and as `metrics.jsonl`. A resumed run continues both.

Knows numbers by name and step; nothing of their origin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from torch.utils.tensorboard import SummaryWriter


class MetricsLog:
    """Appends to the logs of a run's folder, after removing everything logged after step `start`."""

    def __init__(self, out: Path, start: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        path = out / "metrics.jsonl"
        lines = [line for line in read_lines(path) if line["step"] <= start]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self._file = path.open("a", buffering=1)
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=start + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._board.close()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)


def read_lines(path: Path) -> list[dict[str, float]]:
    """The complete lines of a `metrics.jsonl`; empty if there is no such file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
