"""What a run was expected to give, in `estimate.json` beside it, and what it gave so far.

Knows nothing of how an estimate is made.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.estimate import Estimate
from kinescribe.schemas.rendering import DURATIONS, SIZES, Table, Units, unit_of
from kinescribe.storage import listing, objects, uri
from kinescribe.storage.audit import DatasetStatus, footers
from kinescribe.storage.run import ESTIMATE, read_run

_ESTIMATE = TypeAdapter(Estimate)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was expected of a run, and what its committed units took and hold by now."""

    planned: Estimate
    size_bytes: int
    stage_s: Mapping[str, float]
    """Seconds of one core, or of one GPU; what writing took, a unit cannot say."""

    def tables(self, status: DatasetStatus) -> Iterable[Table]:
        """The plan, its share for the clips that are done, and what they really took."""
        done, triplets = 1 - status.pending / status.clips, self.planned.triplets.expected
        rows = [("triplets", f"{triplets:,}", f"{triplets * done:,.0f}", f"{status.triplets:,}")]
        rows.append(_row("storage", SIZES, self.planned.size_bytes, done, self.size_bytes))
        for stage, seconds in self.stage_s.items():
            rows.append(_row(stage, DURATIONS, self.planned.stage_s[stage], done, seconds))
        yield Table(rows, columns=("planned", "in all", "by now", "is"))


def _row(name: str, units: Units, planned: float, done: float, actual: float) -> tuple[str, str, str, str]:
    size, unit = unit_of(max(planned, actual), units)
    in_all, by_now, now = (f"{value / size:.3f}" for value in (planned, planned * done, actual))
    return f"{name}, {unit}", in_all, by_now, now


def write_estimate(dataset: str, estimate: Estimate) -> None:
    """Keep the estimate of the run that will be in this folder; a later one takes its place."""
    text = json.dumps(asdict(estimate), indent=2) + "\n"
    objects.replace(uri.join(dataset, ESTIMATE), text.encode())


def read_estimate(dataset: str) -> Estimate | None:
    """The estimate of the run in this folder, None where there is none. Raises DatasetError."""
    target = uri.join(dataset, ESTIMATE)
    try:
        estimate = _ESTIMATE.validate_json(objects.read_bytes(target), strict=True)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DatasetError(
            f"{target} is damaged; remove it, or plan again: {where} {first['msg']}"
        ) from error
    if estimate.fingerprint != read_run(dataset)["fingerprint"]:
        raise DatasetError(
            f"{target} is the estimate of a run with another input, configuration or model; remove it, or "
            f"run `kinescribe plan` with this run's input and options and `--dataset {dataset}`"
        )
    return estimate


def compare(dataset: str) -> Comparison | None:
    """The run beside what was expected of it, None where nothing was. Raises DatasetError."""
    planned = read_estimate(dataset)
    if planned is None:
        return None
    stage_s: defaultdict[str, float] = defaultdict(float)
    for _, footer in footers(dataset):
        for stage in footer.stages:
            stage_s[stage.stage] += stage.work_s
    sizes = (info.size_bytes or 0 for info in listing.list_files(uri.join(dataset, "data")))
    return Comparison(planned, sum(sizes), dict(stage_s))
