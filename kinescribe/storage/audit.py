"""How far a run is, from the footers alone, and whether its dataset is intact, from every byte.

Conservation: each clip of the plan ends exactly once as kept, dropped or rejected, and the rows agree.
Reads only the dataset's folder, needs neither the input nor the models, and changes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from kinescribe.schemas.clips import WorkUnit
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.frame_check import FrameCheck
from kinescribe.schemas.likelihoods import Familiarity, Histogram, familiarity, total
from kinescribe.schemas.outcomes import ClipOutcome, Status
from kinescribe.schemas.rendering import Table, field_tables
from kinescribe.storage import listing, objects, uri
from kinescribe.storage.dataset import Dataset, Source
from kinescribe.storage.row_sample import RowSample
from kinescribe.storage.rows import missing_columns, rows_problem
from kinescribe.storage.shards import MAX_ROWS, UnitFooter, parse_footer, rows_digest
from kinescribe.storage.threads import map_in_threads


@dataclass(frozen=True, slots=True)
class DatasetStatus:
    """Clips by outcome, `pending` without one; `reasons` counts drops and rejects.

    `familiarity` is None if the model's card doesn't say how likely its words usually are.
    """

    clips: int
    kept: int
    dropped: int
    rejected: int
    pending: int
    triplets: int
    reasons: dict[str, int]
    familiarity: Familiarity | None = None

    def tables(self) -> Iterable[Table]:
        """The counts, and the familiarity if it is known."""
        return field_tables({name: value for name, value in asdict(self).items() if value is not None})


@dataclass(frozen=True, slots=True)
class RejectedClip:
    """A clip that could not be labelled; the times are its window's in seconds, None for a whole video."""

    uri: str
    start_s: float | None
    end_s: float | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The findings of `check`; `problems` names the object or clip, and the remedy.

    `frames` are those of the second decoder, None if no frames were compared.
    """

    ok: bool
    clips: int
    triplets: int
    problems: list[str]
    frames: FrameCheck | None = None

    def tables(self) -> Iterable[Table]:
        """The counts and the problems, then the frames."""
        yield from field_tables(
            {name: getattr(self, name) for name in ("ok", "clips", "triplets", "problems")}
        )
        yield from self.frames.tables() if self.frames else ()


@dataclass(frozen=True, slots=True)
class Totals:
    """The status, and the seconds of one core or GPU that each stage worked on the committed units."""

    status: DatasetStatus
    stage_s: Mapping[str, float]


def status(source: Source) -> DatasetStatus:
    """How far the run is. Raises DatasetError if the folder is not a dataset, or is damaged."""
    return totals(Dataset.open(source)).status


def totals(dataset: Dataset, footers: Iterable[tuple[int, UnitFooter]] | None = None) -> Totals:
    """The status and the work so far, from `dataset.footers()`, which may have been read already."""
    statuses: Counter[Status] = Counter()
    reasons: Counter[str] = Counter()
    stage_s: defaultdict[str, float] = defaultdict(float)
    triplets = 0
    likelihoods: Histogram = total([])

    def with_sums(footers: Iterable[tuple[int, UnitFooter]]) -> Iterator[tuple[int, UnitFooter]]:
        nonlocal likelihoods
        for retry, footer in footers:
            for stage in footer.stages:
                stage_s[stage.stage] += stage.work_s
            if footer.likelihoods:
                likelihoods = total([likelihoods, footer.likelihoods])
            yield retry, footer

    for end in outcomes(with_sums(dataset.footers() if footers is None else footers)):
        statuses[end.status] += 1
        triplets += end.num_triplets
        if end.reason is not None:
            reasons[end.reason.value] += 1
    planned = dataset.plans[0].clips_by_unit
    counts = DatasetStatus(
        clips=planned.total(),
        kept=statuses[Status.KEPT],
        dropped=statuses[Status.DROPPED],
        rejected=statuses[Status.REJECTED],
        pending=_pending(planned, dataset.committed),
        triplets=triplets,
        reasons=dict(sorted(reasons.items())),
        familiarity=familiarity(likelihoods, dataset.run["likelihoods"]),
    )
    return Totals(counts, dict(stage_s))


def rejects(source: Source) -> Iterator[RejectedClip]:
    """The clips that are rejected so far, in the plan's order."""
    dataset = Dataset.open(source)
    ends = {end.clip_id: end for end in outcomes(dataset.footers()) if end.status is Status.REJECTED}
    for unit in dataset.plans[0].units():
        for clip in unit.clips:
            if end := ends.get(clip.clip_id):
                yield RejectedClip(clip.uri, clip.start_s, clip.end_s, str(end.reason), end.message)


def outcomes(footers: Iterable[tuple[int, UnitFooter]]) -> Iterator[ClipOutcome]:
    """The last outcome of each clip, in no order, from `Dataset.footers`."""
    superseded: set[str] = set()
    for retry, footer in footers:
        yield from (end for end in footer.outcomes if end.clip_id not in superseded)
        if retry:
            superseded |= {end.clip_id for end in footer.outcomes}


def check(source: Source, sample: RowSample | None = None) -> CheckResult:
    """Read everything and verify it: digests, outcomes against rows, the plan against the outcomes.

    `sample` is drawn from the rows of the intact units.
    """
    dataset = Dataset.open(source)
    problems = [*_plan_problems(dataset), *_foreign_files(dataset)]
    units = (unit for plan in dataset.plans for unit in plan.units() if unit.unit_id in dataset.committed)
    triplets = 0
    for unit_id, ids, found in map_in_threads(lambda unit: _audit_unit(dataset, unit), units):
        triplets += len(ids)
        problems += found
        if sample and not found:
            sample.add(unit_id, ids["triplet_id"].to_pylist())
    problems += _pending_clips(dataset)
    clips = dataset.plans[0].clips_by_unit.total()
    return CheckResult(ok=not problems, clips=clips, triplets=triplets, problems=problems)


def _pending(planned: Mapping[str, int], committed: Mapping[str, int]) -> int:
    """The clips in units that are not committed."""
    return sum(clips for unit, clips in planned.items() if unit not in committed)


def _pending_clips(dataset: Dataset) -> Iterator[str]:
    first, *retries = (_pending(plan.clips_by_unit, dataset.committed) for plan in dataset.plans)
    if first:
        total = dataset.plans[0].clips_by_unit.total()
        yield f"{first} of {total} clips are pending; run the same command again to resume"
    if sum(retries):
        yield f"{sum(retries)} rejected clips are yet to be tried again; run the same command again to resume"


def _plan_problems(dataset: Dataset) -> Iterator[str]:
    plan = dataset.plans[0]
    if plan.digest() != dataset.run["identity"]["plan"]:
        yield "plan/clips.parquet is not the plan that run.json names; restore it from a backup"
    clip_ids = pl.Series("clip_id", plan.columns(["clip_id"])["clip_id"])
    repeated = clip_ids.filter(clip_ids.is_duplicated()).unique(maintain_order=True)
    if len(repeated):
        yield f"plan/clips.parquet: {len(repeated)} clips are planned more than once, first {repeated[0]}"


def _foreign_files(dataset: Dataset) -> Iterator[str]:
    """Files in `data/` and `plan/` that are not this run's; readers of the whole folder would read them."""
    units = {dataset.unit_uri(unit) for plan in dataset.plans for unit in plan.clips_by_unit}
    expected = {"data": ("unit", units), "plan": ("plan", {plan.uri for plan in dataset.plans})}
    for folder, (kind, uris) in expected.items():
        for info in listing.list_files(uri.join(dataset.uri, folder)):
            if info.uri not in uris:
                name = info.uri.removeprefix(dataset.uri).lstrip("/")
                yield f"{name} is not a {kind} of this run; move it away"


class _Audited(NamedTuple):
    """A unit's problems, and the column `triplet_id` of its intact rows, if it has one."""

    unit_id: str
    ids: pa.Table
    problems: Sequence[str]


def _audit_unit(dataset: Dataset, unit: WorkUnit) -> _Audited:
    name = f"data/{unit.unit_id}.parquet"
    try:
        file = pq.ParquetFile(pa.BufferReader(objects.read_bytes(dataset.unit_uri(unit.unit_id))))
        footer = parse_footer(name, file.metadata.metadata)
        if file.metadata.num_rows > MAX_ROWS:
            return _unusable(unit, f"{name} claims to have {file.metadata.num_rows} rows; move it away")
        rows = file.read()
    except DatasetError as error:
        return _unusable(unit, str(error))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        return _unusable(unit, f"{name} is damaged ({error}); move it away and run the same command again")
    if rows_digest(rows) != footer.digest:
        return _unusable(
            unit, f"{name}: the rows do not have the digest that was committed; move it away and run again"
        )
    ids = rows.select([column for column in rows.column_names if column == "triplet_id"])
    problems = [f"{name}: {problem}" for problem in _disagreements(unit, footer, rows, dataset.grid)]
    return _Audited(unit.unit_id, ids, problems)


def _unusable(unit: WorkUnit, problem: str) -> _Audited:
    return _Audited(unit.unit_id, pa.table({}), [problem])


def _disagreements(
    unit: WorkUnit, footer: UnitFooter, rows: pa.Table, grid: tuple[int, int]
) -> Iterator[str]:
    if missing := missing_columns(rows.schema):
        yield f"it lacks {', '.join(missing)}"
        return
    if problem := rows_problem(rows, grid):
        yield problem
    if footer.unit_id != unit.unit_id:
        yield f"it is the object of unit {footer.unit_id}"
    if [end.clip_id for end in footer.outcomes] != [clip.clip_id for clip in unit.clips]:
        yield "its outcomes are not those of the unit's clips"
    counts = Counter(rows["clip_id"].to_pylist())
    promised = Counter({end.clip_id: end.num_triplets for end in footer.outcomes if end.num_triplets})
    for clip_id in sorted(counts.keys() | promised.keys()):
        if counts[clip_id] != promised[clip_id]:
            yield f"clip {clip_id} has {counts[clip_id]} rows, its outcome says {promised[clip_id]}"
    triplet_ids = Counter(rows["triplet_id"].to_pylist())
    for triplet_id in (triplet_id for triplet_id, count in triplet_ids.items() if count > 1):
        yield f"triplet {triplet_id} is in it more than once"
