"""The estimate of a run, in `estimate.json` in its folder, beside the run so far.

Knows nothing of how an estimate is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.estimate import Estimate
from kinescribe.schemas.rendering import DURATIONS, SIZES, Table, Units, unit_of
from kinescribe.storage import objects, uri
from kinescribe.storage.audit import DatasetStatus
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.run import ESTIMATE

_ESTIMATE = TypeAdapter(Estimate)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The estimate of a run, and the time and size of its committed units."""

    planned: Estimate
    size_bytes: int
    stage_s: Mapping[str, float]
    """Seconds of one core, or of one GPU; without writing, whose time is not recorded."""

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


def require_estimate(dataset: str) -> None:
    """Raises DatasetError if the folder has an `estimate.json` that Kinescribe did not write."""
    _read(uri.join(dataset, ESTIMATE))


def write_estimate(dataset: str, estimate: Estimate) -> None:
    """Write the estimate of the run that will be in this folder, replacing an earlier one."""
    text = json.dumps(asdict(estimate), indent=2) + "\n"
    objects.replace(uri.join(dataset, ESTIMATE), text.encode())


def read_estimate(dataset: Dataset) -> Estimate | None:
    """The estimate of a dataset's run, None if there is none. Raises DatasetError if it is another run's."""
    target = uri.join(dataset.uri, ESTIMATE)
    estimate = _read(target)
    if estimate and estimate.fingerprint != dataset.fingerprint:
        raise DatasetError(
            f"{target} is the estimate of a run with another input, configuration or model; remove it, or "
            f"run `kinescribe plan` with this run's input and options and `--dataset {dataset}`"
        )
    return estimate


def _read(target: str) -> Estimate | None:
    try:
        return _ESTIMATE.validate_json(objects.read_bytes(target), strict=True)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DatasetError(
            f"{target} is not an estimate, or damaged ({where} {first['msg']}); remove it, then plan again"
        ) from error


def compare(dataset: Dataset, stage_s: Mapping[str, float]) -> Comparison | None:
    """The run beside its estimate, None if there is none; `stage_s` is that of `audit.totals`.

    Raises DatasetError.
    """
    planned = read_estimate(dataset)
    return planned and Comparison(planned, sum(dataset.committed.values()), stage_s)
