"""What a dataset folder is bound to: the run's fingerprint in `run.json`, its clips in `plan/clips.parquet`.

Both are created once and never change, so that a second driver, or the same one a week later, either
goes on with exactly this run or is refused. Clips that are tried again get units of their own, in
`plan/retry-0001.parquet` and so on, which are created once too. Knows no rows and no outcomes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kinescribe.schemas.clips import Clip, WorkUnit, stable_id
from kinescribe.schemas.errors import DatasetError
from kinescribe.storage import credentials, listing, objects, uri

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
ENCODED: dict[str, Any] = {"use_dictionary": ["unit_id", "action_class", "start_s", "end_s"]}
"""A plan as Parquet: a dictionary of ids and URIs, which do not repeat, takes as long as all the rest."""
PLAN_LINE = "{}\t{}\t{}\t{}\n"
"""What is hashed of each clip: its id, class, start and end."""
RUN = "run.json"
ESTIMATE = "estimate.json"
UNITS_PER_BATCH = 4096
ABSENT = "(absent)"
ANOTHER_INPUT = (
    "the input: its files, classes, windows or their order are not those that this folder was begun with"
)
NAME_ONE = "name the folder that `label` or `ingest` wrote"
REQUIRED = ("plan", "codec.id", "codec.grid")
"""What the identity of every run has."""
NO_EFFECT = ("max_reject_rate", "roots")
"""Configuration that changes no row: it may differ when a run is resumed."""


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
    data that is no run's; StoreError where it cannot be written.
    """
    require_own(dataset, run)
    record = {"version": run.version, "fingerprint": run.fingerprint, "identity": run.identity}
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if not objects.create(uri.join(dataset, RUN), text.encode(), aside=uri.join(dataset, ".tmp")):
        require_own(dataset, run)  # another driver may have been first


def require_own(dataset: str, run: Run) -> None:
    """Raises DatasetError as `bind` does; writes nothing, and a folder that nobody began passes."""
    if not objects.exists(uri.join(dataset, RUN)):
        if any(listing.list_files(uri.join(dataset, "data"))):
            raise DatasetError(f"{dataset} holds a data folder but no {RUN}; choose an empty folder")
        if objects.exists(uri.join(dataset, "README.md")):  # which the dataset's card would replace
            raise DatasetError(f"{dataset} holds a README.md but no {RUN}; choose an empty folder")
        return
    changes = _differences(read_run(dataset)["identity"], run.identity)
    if changes:
        raise DatasetError(
            f"{dataset} belongs to another run; what differs (there → now):\n  "
            + "\n  ".join(changes)
            + "\nchoose another output folder, or run with the input, configuration and models of that run"
        )


def read_run(dataset: str) -> dict[str, Any]:
    """`run.json` as bound: version, fingerprint and identity. Raises DatasetError where there is none."""
    target = uri.join(dataset, RUN)
    try:
        record = json.loads(objects.read_bytes(target))
        plan, codec_id, (_, _) = itemgetter(*REQUIRED)(record["identity"])
        if not all(
            isinstance(one, str) for one in (plan, codec_id, record["version"], record["fingerprint"])
        ):
            raise TypeError("what should be text is none")
        return {key: record[key] for key in ("version", "fingerprint", "identity")}
    except FileNotFoundError as error:
        raise _no_dataset(dataset, RUN) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(
            f"{target} is damaged ({error!r}); restore it, or choose another folder"
        ) from error


def read_runs(datasets: Sequence[str]) -> dict[str, str]:
    """The datasets by the fingerprint of their run. Raises DatasetError where two are the same run's."""
    by_run: dict[str, str] = {}
    for dataset in datasets:
        fingerprint = read_run(dataset)["fingerprint"]
        if fingerprint in by_run:
            raise DatasetError(
                f"{by_run[fingerprint]} and {dataset} are the same run's dataset; name one of them"
            )
        by_run[fingerprint] = dataset
    return by_run


def _no_dataset(dataset: str, missing: str) -> DatasetError:
    """Why a folder without this object is none, or none so far."""
    if objects.exists(uri.join(dataset, ESTIMATE)):
        return DatasetError(
            f"{dataset} holds what `kinescribe plan` expects of a run, which has not begun; start it by "
            f"`kinescribe label` with the same input and options and `--out {dataset}`"
        )
    return DatasetError(f"{dataset} is no dataset of Kinescribe: it has no {missing}; {NAME_ONE}")


def plan_digest(clips: Iterable[Clip]) -> str:
    """A hash of the clips in their order; not of where the corpus lies, so that it may move."""
    return digest_of(
        PLAN_LINE.format(clip.clip_id, clip.action_class, clip.start_s, clip.end_s) for clip in clips
    )


def digest_of(lines: Iterable[str]) -> str:
    """The same of the clips' `PLAN_LINE`s, or of several of them at a time."""
    digest = hashlib.blake2b(digest_size=16)
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()


def write_plan(dataset: str, units: Sequence[WorkUnit], retry: int = 0) -> None:
    """Record the clips of a run with their units, unless that was done already; or those of its nth retry."""
    remaining = iter(units)
    parts = iter(lambda: list(islice(remaining, UNITS_PER_BATCH)), [])
    write_plan_tables(dataset, (pa.table(_plan_columns(some), schema=PLAN_SCHEMA) for some in parts), retry)


def write_plan_tables(dataset: str, tables: Iterable[pa.Table], retry: int = 0) -> None:
    """As `write_plan`, from the plan's rows in parts."""
    target = plan_uri(dataset, retry)
    if objects.exists(target):
        return
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, PLAN_SCHEMA, compression="zstd", **ENCODED) as writer:
        for rows in tables:
            writer.write_table(rows)
    objects.create(target, sink.getvalue().to_pybytes(), aside=uri.join(dataset, ".tmp"))


def num_retries(dataset: str) -> int:
    """How often clips of this run were planned to be tried again."""
    names = {info.uri for info in listing.list_files(uri.join(dataset, "plan"))}
    return next(retry for retry in count() if plan_uri(dataset, retry + 1) not in names)


def read_plan(dataset: str, retry: int = 0) -> Iterator[WorkUnit]:
    """The units of a run or of its nth retry in order, as many in memory as one batch holds."""
    with _plan_file(dataset, retry) as path, pq.ParquetFile(path) as plan:
        rows = (row for batch in plan.iter_batches() for row in batch.to_pylist())
        for unit_id, members in groupby(rows, key=_take_unit_id):
            yield WorkUnit(unit_id, tuple(Clip(**row) for row in members))


def read_plan_columns(dataset: str, columns: Sequence[str], retry: int = 0) -> pa.Table:
    """Some columns of the plan of a run or of its nth retry, one row per clip, in order."""
    with _plan_file(dataset, retry) as path:
        return pq.read_table(path, columns=list(columns)).select(list(columns))


def planned_units(dataset: str) -> dict[str, int]:
    """The ids of all units in order, and of which retry they are; 0 for the first try."""
    units: dict[str, int] = {}
    for retry in range(num_retries(dataset) + 1):
        units |= dict.fromkeys(clips_by_unit(dataset, retry), retry)
    return units


def clips_by_unit(dataset: str, retry: int = 0) -> Counter[str]:
    """The ids of the units of a run or of its nth retry in order, and how many clips each has."""
    clips: Counter[str] = Counter()
    with _plan_file(dataset, retry) as path, pq.ParquetFile(path) as plan:
        for batch in plan.iter_batches(columns=["unit_id"]):
            counts = batch.column(0).value_counts()
            clips.update(dict(zip(*(part.to_pylist() for part in counts.flatten()), strict=True)))
    return clips


def _plan_columns(units: Sequence[WorkUnit]) -> dict[str, list[Any]]:
    clips = [clip for unit in units for clip in unit.clips]
    columns = {name: [getattr(clip, name) for clip in clips] for name in PLAN_SCHEMA.names[1:]}
    return {"unit_id": [unit.unit_id for unit in units for _ in unit.clips], **columns}


def _take_unit_id(row: dict[str, Any]) -> str:
    return row.pop("unit_id")


def plan_uri(dataset: str, retry: int = 0) -> str:
    """Where the plan of a run is, or that of its nth retry."""
    return uri.join(dataset, "plan", f"retry-{retry:04d}.parquet" if retry else "clips.parquet")


@contextmanager
def _plan_file(dataset: str, retry: int) -> Generator[Path]:
    """The plan as a local file; what is wrong with it is a DatasetError."""
    plan = plan_uri(dataset, retry)
    if not objects.exists(plan):
        raise _no_dataset(dataset, "plan/clips.parquet")
    try:
        with objects.local_copy(plan) as path:
            yield path
    except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DatasetError(f"{plan} is damaged ({error!r}); restore it from a backup") from error


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = sorted(there.keys() | now.keys())
    return [
        ANOTHER_INPUT if key == "plan" else f"{key}: {there.get(key, ABSENT)} → {now.get(key, ABSENT)}"
        for key in keys
        if there.get(key, ...) != now.get(key, ...)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", credentials.redact(value) if isinstance(value, str) else value
