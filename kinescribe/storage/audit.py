"""Where a run stands, from the footers alone, and whether its dataset is whole, from every byte.

Conservation: each clip of the plan ends exactly once as kept, dropped or rejected, and the rows agree.
Reads only what is in the folder; needs neither the input nor the models, and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from kinescribe.schemas.clips import WorkUnit
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import ClipOutcome, Status
from kinescribe.storage import listing, objects, uri
from kinescribe.storage.run import (
    clips_by_unit,
    num_retries,
    plan_digest,
    plan_uri,
    planned_units,
    read_plan,
    read_plan_columns,
    read_run,
)
from kinescribe.storage.shards import (
    UnitFooter,
    committed_units,
    parse_footer,
    read_footer,
    rows_digest,
    unit_uri,
)
from kinescribe.storage.threads import map_in_threads


@dataclass(frozen=True, slots=True)
class DatasetStatus:
    """Clips by how they ended, `pending` where they haven't; `reasons` counts drops and rejects."""

    clips: int
    kept: int
    dropped: int
    rejected: int
    pending: int
    triplets: int
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class RejectedClip:
    """A clip that could not be labelled; the times are its window's in seconds, None where it has none."""

    uri: str
    start_s: float | None
    end_s: float | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What an audit found; `problems` names the object or clip and what to do about it."""

    ok: bool
    clips: int
    triplets: int
    problems: list[str]


def status(dataset: str) -> DatasetStatus:
    """How far the run has come. Raises DatasetError where the folder is no dataset or is damaged."""
    return status_of(dataset, footers(dataset))


def status_of(dataset: str, found: Iterable[tuple[int, UnitFooter]]) -> DatasetStatus:
    """The same, from `footers` that were read already."""
    planned = clips_by_unit(dataset)
    statuses: Counter[Status] = Counter()
    reasons: Counter[str] = Counter()
    committed: set[str] = set()
    triplets = 0

    def noted() -> Iterator[tuple[int, UnitFooter]]:
        for retry, footer in found:
            committed.add(footer.unit_id)
            yield retry, footer

    for end in outcomes(noted()):
        statuses[end.status] += 1
        triplets += end.num_triplets
        if end.reason is not None:
            reasons[end.reason.value] += 1
    return DatasetStatus(
        clips=planned.total(),
        kept=statuses[Status.KEPT],
        dropped=statuses[Status.DROPPED],
        rejected=statuses[Status.REJECTED],
        pending=sum(clips for unit, clips in planned.items() if unit not in committed),
        triplets=triplets,
        reasons=dict(sorted(reasons.items())),
    )


def rejects(dataset: str) -> Iterator[RejectedClip]:
    """The clips that are rejected by now, in the plan's order."""
    ends = {end.clip_id: end for end in outcomes(footers(dataset)) if end.status is Status.REJECTED}
    for unit in read_plan(dataset):
        for clip in unit.clips:
            if end := ends.get(clip.clip_id):
                yield RejectedClip(clip.uri, clip.start_s, clip.end_s, str(end.reason), end.message)


def outcomes(found: Iterable[tuple[int, UnitFooter]]) -> Iterator[ClipOutcome]:
    """How each clip ended, from `footers`, in no order; where it was tried again, the last time."""
    superseded: set[str] = set()
    for retry, footer in found:
        yield from (end for end in footer.outcomes if end.clip_id not in superseded)
        if retry:
            superseded |= {end.clip_id for end in footer.outcomes}


def footers(dataset: str) -> Iterator[tuple[int, UnitFooter]]:
    """Of which retry each committed unit is (0: the first try), and its footer; the last retry's first."""
    units, committed = planned_units(dataset), committed_units(dataset)
    done = [unit for unit in reversed(units) if unit in committed]
    read = map_in_threads(read_footer, (unit_uri(dataset, unit) for unit in done))
    yield from zip((units[unit] for unit in done), read, strict=True)


def check(dataset: str) -> CheckResult:
    """Read everything and verify it: digests, outcomes against rows, the plan against the outcomes."""
    done = committed_units(dataset)
    problems = [*_plan_problems(dataset), *_foreign(dataset)]
    retries = range(num_retries(dataset) + 1)
    units = (unit for retry in retries for unit in read_plan(dataset, retry) if unit.unit_id in done)
    triplets = 0
    for num_rows, found in map_in_threads(lambda unit: _audit_unit(dataset, unit), units):
        triplets += num_rows
        problems += found
    tries = [clips_by_unit(dataset, retry) for retry in retries]
    problems += _pending(tries, done)
    return CheckResult(ok=not problems, clips=tries[0].total(), triplets=triplets, problems=problems)


def _pending(tries: Sequence[Counter[str]], done: Set[str]) -> Iterator[str]:
    """What is left to do, from the clips of each unit of the plan and of each retry."""
    pending, again = (
        sum(clips for units in some for unit, clips in units.items() if unit not in done)
        for some in (tries[:1], tries[1:])
    )
    if pending:
        yield f"{pending} of {tries[0].total()} clips are pending; run the same command again to resume"
    if again:
        yield f"{again} rejected clips are yet to be tried again; run the same command again to resume"


def _plan_problems(dataset: str) -> Iterator[str]:
    clips = (clip for unit in read_plan(dataset) for clip in unit.clips)
    if plan_digest(clips) != read_run(dataset)["identity"]["plan"]:
        yield "plan/clips.parquet is not the plan that run.json names; restore it from a backup"
    repeated = _repeated(read_plan_columns(dataset, ["clip_id"])["clip_id"].to_pylist())
    if repeated:
        yield f"plan/clips.parquet: {len(repeated)} clips are planned more than once, first {repeated[0]}"


def _foreign(dataset: str) -> Iterator[str]:
    """Files in `data/` that are no unit's of this run, which readers of the whole folder would take in."""
    expected = {
        "data": ("unit", {unit_uri(dataset, unit) for unit in planned_units(dataset)}),
        "plan": ("plan", {plan_uri(dataset, retry) for retry in range(num_retries(dataset) + 1)}),
    }
    for folder, (kind, uris) in expected.items():
        for info in listing.list_files(uri.join(dataset, folder)):
            if info.uri not in uris:
                yield f"{info.uri.removeprefix(dataset).lstrip('/')} is no {kind} of this run; move it away"


def _audit_unit(dataset: str, unit: WorkUnit) -> tuple[int, list[str]]:
    """The number of sound rows in a unit's object, and what is wrong with it."""
    name = f"data/{unit.unit_id}.parquet"
    try:
        file = pq.ParquetFile(pa.BufferReader(objects.read_bytes(unit_uri(dataset, unit.unit_id))))
        footer = parse_footer(name, file.metadata.metadata)
        rows = file.read()
    except DatasetError as error:
        return 0, [str(error)]
    except (pa.ArrowException, OSError) as error:
        return 0, [f"{name} is damaged ({error}); move it away and run the same command again"]
    if rows_digest(rows) != footer.digest:
        return 0, [f"{name}: the rows do not have the digest that was committed; move it away and run again"]
    return rows.num_rows, [f"{name}: {problem}" for problem in _disagreements(unit, footer, rows)]


def _disagreements(unit: WorkUnit, footer: UnitFooter, rows: pa.Table) -> Iterator[str]:
    if footer.unit_id != unit.unit_id:
        yield f"it is the object of unit {footer.unit_id}"
    if [end.clip_id for end in footer.outcomes] != [clip.clip_id for clip in unit.clips]:
        yield "its outcomes are not those of the unit's clips"
    counts = Counter(rows["clip_id"].to_pylist())
    promised = Counter({end.clip_id: end.num_triplets for end in footer.outcomes if end.num_triplets})
    for clip_id in sorted(counts.keys() | promised.keys()):
        if counts[clip_id] != promised[clip_id]:
            yield f"clip {clip_id} has {counts[clip_id]} rows, its outcome says {promised[clip_id]}"
    for triplet_id in _repeated(rows["triplet_id"].to_pylist()):
        yield f"triplet {triplet_id} is there more than once"


def _repeated(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]
