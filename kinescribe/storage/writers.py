"""Who is writing to a dataset: each run keeps a small object in `writers/` while it works.

A run that was killed leaves its object; the next run removes it.

This is advice, so that a second run doesn't do all work twice without a word. Correctness doesn't depend on
it: a unit is created only if it is absent, whoever writes it. Knows nothing of units and rows.
"""

from __future__ import annotations

import json
import platform
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace

import psutil
from pydantic import TypeAdapter, ValidationError

from kinescribe.schemas.errors import DatasetError, StoreError
from kinescribe.storage import objects, uri
from kinescribe.storage.listing import list_files

FOLDER = "writers"
RENEW_S = 30.0
STALE_S = 180.0
"""A run that has not renewed its claim for this long has died, or its machine has."""
SAME_START_S = 2.0
"""By how much two readings of when a process started may differ."""


@dataclass(frozen=True, slots=True)
class Writer:
    """A run's claim on a dataset. Times are seconds since 1970, by the clock of its host."""

    host: str
    process: int
    process_started: float
    since: float
    renewed: float
    last_commit: float | None = None

    def is_alive(self, now: float) -> bool:
        """Whether the run still works, as far as its claim and, on the same host, its process tell."""
        if now - self.renewed > STALE_S:
            return False
        return self.host != platform.node() or _runs(self.process, self.process_started)

    def __str__(self) -> str:
        commit = (
            "nothing committed yet" if self.last_commit is None else f"last commit {_ago(self.last_commit)}"
        )
        return f"process {self.process} on {self.host}, which started {_ago(self.since)}, {commit}"


_WRITER = TypeAdapter(Writer)


@contextmanager
def writing(dataset: str, join: bool = False) -> Generator[Callable[[], None]]:
    """Claim the dataset while the block runs; call the yielded function after each commit.

    Claims of runs that have died are removed. Raises DatasetError if another run is writing, unless `join`
    says to work beside it.
    """
    others = _live_others(dataset)
    if not join:
        _require_no_other(dataset, others)
    claim = _Claim(dataset)
    try:
        if not join:  # another run may have started at the same moment: the earlier one goes on
            others = _live_others(dataset, claim.name)
            _require_no_other(dataset, [other for other in others if other.since <= claim.writer.since])
        yield claim.note_commit
        with suppress(StoreError, OSError):
            _live_others(dataset, claim.name)  # removes those of runs that have died meanwhile
    finally:
        claim.end()


class _Claim:
    """This run's object, renewed by a thread until `end`."""

    def __init__(self, dataset: str) -> None:
        now, process = time.time(), psutil.Process()
        self.writer = Writer(platform.node(), process.pid, process.create_time(), now, now)
        self.name = uri.join(dataset, FOLDER, f"{uuid.uuid4().hex}.json")
        self._over = threading.Event()
        self._renew()
        self._thread = threading.Thread(target=self._keep_alive, daemon=True)
        self._thread.start()

    def note_commit(self) -> None:
        self.writer = replace(self.writer, last_commit=time.time())

    def end(self) -> None:
        self._over.set()
        self._thread.join(RENEW_S)  # or it might write the object again
        with suppress(StoreError, OSError):  # it will be stale soon
            objects.remove(self.name)
            if uri.is_local(self.name):
                uri.local_path(self.name).parent.rmdir()

    def _keep_alive(self) -> None:
        while not self._over.wait(RENEW_S):
            with suppress(StoreError):  # the next attempt may succeed, and a stale claim harms nobody
                self._renew()

    def _renew(self) -> None:
        self.writer = replace(self.writer, renewed=time.time())
        objects.replace(self.name, json.dumps(asdict(self.writer)).encode())


def _require_no_other(dataset: str, writers: list[Writer]) -> None:
    if not writers:
        return
    latest = max(writers, key=lambda writer: writer.renewed)
    raise DatasetError(
        f"{dataset} is being written by {latest}; wait until it ends, or stop it, or give --join (in Python "
        f"join=True) to work beside it, which labels some clips twice and harms nothing. If it was killed, "
        f"its claim ends {STALE_S:.0f} s after it was last renewed, {_ago(latest.renewed)}"
    )


def _live_others(dataset: str, own: str | None = None) -> list[Writer]:
    """The claims of other runs that still work. Those of dead runs are removed."""
    live: list[Writer] = []
    for info in list_files(uri.join(dataset, FOLDER)):
        if info.uri == own or not info.uri.endswith(".json"):
            continue
        try:
            writer = _WRITER.validate_json(objects.read_bytes(info.uri))
        except (FileNotFoundError, ValidationError):  # its run has ended meanwhile, or it isn't a claim
            continue
        if writer.is_alive(time.time()):
            live.append(writer)
        else:
            with suppress(StoreError, OSError):  # it harms nobody
                objects.remove(info.uri)
    return live


def _runs(process: int, started: float) -> bool:
    """Whether the process runs: another one may have its number by now."""
    try:
        found = psutil.Process(process)
        is_same = abs(found.create_time() - started) < SAME_START_S
        return is_same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _ago(then: float) -> str:
    seconds = max(0.0, time.time() - then)
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.1f} h ago"
