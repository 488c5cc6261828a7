"""A real Prometheus for tests, as Debian packages it."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ports import free_ports
from tests.ray_head import START_S

STEP_S = 2
"""A scrape has as long to answer, which on a busy machine takes most of a second."""


@dataclass(frozen=True)
class Prometheus:
    url: str
    started: float

    def points(self, expression: str) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """What the expression gave since it was started: labels, times and values of each series but NaN."""
        asked = {"query": expression, "start": self.started, "end": time.time(), "step": STEP_S}
        with urllib.request.urlopen(
            f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        ) as reply:
            result: list[Any] = json.load(reply)["data"]["result"]
        found = [(one["metric"], [(at, float(value)) for at, value in one["values"]]) for one in result]
        return [(labels, known) for labels, points in found if (known := [p for p in points if p[1] == p[1]])]

    def series(self, expression: str) -> list[tuple[dict[str, str], list[float]]]:
        """The same without the times."""
        return [(labels, [value for _, value in points]) for labels, points in self.points(expression)]

    def peak(self, expression: str) -> float:
        """The greatest value of any series, 0 where there is none."""
        return max((value for _, values in self.series(expression) for value in values), default=0.0)

    def last(self, expression: str) -> dict[str, float]:
        """The newest value of each series, by its only label."""
        return {next(iter(labels.values()), ""): values[-1] for labels, values in self.series(expression)}


@contextmanager
def prometheus(config: Path, folder: Path) -> Iterator[Prometheus]:
    """One that scrapes at every step what Ray's own configuration for it says, and keeps it in `folder`."""
    path = shutil.which("prometheus")
    assert path, "no Prometheus to ask the dashboard's questions: apt-get install prometheus"
    own = folder / "prometheus.yml"
    own.write_text(config.read_text().replace("10s", f"{STEP_S}s"))
    (port,) = free_ports(1)
    command = [path, f"--config.file={own}", f"--storage.tsdb.path={folder}/series"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    log = folder / "prometheus.log"
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/-/ready", server, log)
        yield Prometheus(url, time.time())
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
