"""What a dataset folder is bound to: the run's fingerprint in `run.json`, its clips in `plan/clips.parquet`.

Both are created once and never change, so that a second driver, or the same one a week later, either
goes on with exactly this run or is refused. Knows no rows and no outcomes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.clips import Clip, WorkUnit, stable_id
from schemas.errors import DatasetError
from storage import uri

PLAN_SCHEMA = pa.schema(
    [
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("action_class", pa.string()),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("size_bytes", pa.int64()),
    ]
)
UNITS_PER_BATCH = 4096
NO_EFFECT = ("max_reject_rate",)
"""Configuration that changes no row: it may differ when a run is resumed."""
SECRETS = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)|(?<=[?&])[^?&#\s]+")


@dataclass(frozen=True)
class Run:
    """Everything that the rows of a dataset are a function of.

    `models` maps a role (`dynamics`, …) to the fingerprint of the weights; `plan` is the digest of the
    clips; `grid` is the codec's (height, width) in tokens. `version` is recorded but not compared.
    """

    version: str
    config: Mapping[str, Any]
    models: Mapping[str, str]
    codec_id: str
    grid: tuple[int, int]
    plan: str

    @property
    def identity(self) -> dict[str, Any]:
        """What a run that resumes this one must have in common with it, by dotted key; no secrets."""
        config = {key: value for key, value in self.config.items() if key not in NO_EFFECT}
        codec = {"id": self.codec_id, "grid": list(self.grid)}
        parts = {"config": config, "models": self.models, "codec": codec, "plan": self.plan}
        return json.loads(json.dumps(dict(_flat(parts))))

    @property
    def fingerprint(self) -> str:
        """A hash of the identity."""
        return stable_id(json.dumps(self.identity, sort_keys=True))


def bind(dataset: str, run: Run) -> None:
    """Bind the folder to this run, or make sure that it is.

    Raises DatasetError, with each differing key, where the folder is another run's, and where it holds
    data that is no run's.
    """
    try:
        is_new = _create_run(dataset, run)
    except OSError as error:
        raise DatasetError(
            f"{dataset} cannot be written: {error}; choose a folder or a bucket that you may write to"
        ) from error
    if is_new:
        return
    changes = _differences(read_run(dataset)["identity"], run.identity)
    if changes:
        raise DatasetError(
            f"{dataset} belongs to another run; what differs (there → now):\n  "
            + "\n  ".join(changes)
            + "\nchoose another output folder, or run with the input, configuration and models of that run"
        )


def _create_run(dataset: str, run: Run) -> bool:
    target = uri.join(dataset, "run.json")
    if not uri.exists(target) and any(uri.list_files(uri.join(dataset, "data"))):
        raise DatasetError(f"{dataset} holds a data folder but no run.json; choose an empty folder")
    record = {"version": run.version, "fingerprint": run.fingerprint, "identity": run.identity}
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return uri.create(target, text.encode(), aside=uri.join(dataset, ".tmp"))


def read_run(dataset: str) -> dict[str, Any]:
    """`run.json` as bound: version, fingerprint and identity. Raises DatasetError where there is none."""
    target = uri.join(dataset, "run.json")
    try:
        record = json.loads(uri.read_bytes(target))
        return {key: record[key] for key in ("version", "fingerprint", "identity")}
    except FileNotFoundError as error:
        raise DatasetError(f"{dataset} is no dataset of Kinescribe: it has no run.json") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{target} is damaged ({error!r}); restore it, or choose another folder"
        ) from error


def plan_digest(clips: Iterable[Clip]) -> str:
    """A hash of the clips in their order; not of where the corpus lies, so that it may move."""
    digest = hashlib.blake2b(digest_size=16)
    for clip in clips:
        digest.update(f"{clip.clip_id}\t{clip.action_class}\t{clip.start_s}\t{clip.end_s}\n".encode())
    return digest.hexdigest()


def write_plan(dataset: str, units: Sequence[WorkUnit]) -> None:
    """Record the clips of a run with their units, unless that was done already."""
    target = _plan_uri(dataset)
    if uri.exists(target):
        return
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, PLAN_SCHEMA, compression="zstd") as writer:
        remaining = iter(units)
        while some := list(islice(remaining, UNITS_PER_BATCH)):
            writer.write_table(pa.table(_plan_columns(some), schema=PLAN_SCHEMA))
    uri.create(target, sink.getvalue().to_pybytes(), aside=uri.join(dataset, ".tmp"))


def read_plan(dataset: str) -> Iterator[WorkUnit]:
    """The units of a run in order, as many in memory as one batch holds."""
    with _plan_file(dataset) as path, pq.ParquetFile(path) as plan:
        rows = (row for batch in plan.iter_batches() for row in batch.to_pylist())
        for unit_id, members in groupby(rows, key=_take_unit_id):
            yield WorkUnit(unit_id, tuple(Clip(**row) for row in members))


def read_plan_columns(dataset: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of the plan, one row per clip, in order."""
    with _plan_file(dataset) as path:
        return pq.read_table(path).select(list(columns))


def _plan_columns(units: Sequence[WorkUnit]) -> dict[str, list[Any]]:
    clips = [clip for unit in units for clip in unit.clips]
    columns = {name: [getattr(clip, name) for clip in clips] for name in PLAN_SCHEMA.names[1:]}
    return {"unit_id": [unit.unit_id for unit in units for _ in unit.clips], **columns}


def _take_unit_id(row: dict[str, Any]) -> str:
    return row.pop("unit_id")


def _plan_uri(dataset: str) -> str:
    return uri.join(dataset, "plan", "clips.parquet")


@contextmanager
def _plan_file(dataset: str) -> Generator[Path]:
    """The plan as a local file; what is wrong with it is a DatasetError."""
    plan = _plan_uri(dataset)
    if not uri.exists(plan):
        raise DatasetError(f"{dataset} is no dataset of Kinescribe: it has no plan/clips.parquet")
    try:
        with uri.local_copy(plan) as path:
            yield path
    except (pa.ArrowException, KeyError, TypeError) as error:
        raise DatasetError(f"{plan} is damaged ({error!r}); restore it from a backup") from error


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = sorted(there.keys() | now.keys())
    return [
        f"{key}: {there.get(key, '(absent)')} → {now.get(key, '(absent)')}"
        for key in keys
        if there.get(key, ...) != now.get(key, ...)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", redact(value) if isinstance(value, str) else value


def redact(text: str) -> str:
    """The text without passwords and signatures in its URIs."""
    return SECRETS.sub("***", text) if "://" in text else text
