"""Plans second tries for rejected clips: new units, whose outcomes replace the rejects.

Works on a dataset's plan and committed units. Labels nothing.
"""

from __future__ import annotations

from kinescribe.labeling.units import plan_units
from kinescribe.schemas.clips import WorkUnit
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import Status
from kinescribe.storage.audit import outcomes
from kinescribe.storage.clips import StoredClips
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.plan import num_retries, plan_uri, read_plan, write_plan
from kinescribe.storage.run import Run
from kinescribe.storage.shards import committed_units


def plan_retry(dataset: str, run: Run, clips: StoredClips, clips_per_unit: int) -> None:
    """Plan new units for the rejected clips that aren't in a pending unit of an earlier retry."""
    committed, retry = committed_units(dataset), num_retries(dataset) + 1
    ends = outcomes(Dataset.open(dataset).footers())
    rejected = {end.clip_id for end in ends if end.status is Status.REJECTED}
    for unit in retry_units(dataset, run, clips):
        if unit.unit_id not in committed:
            rejected -= {clip.clip_id for clip in unit.clips}
    if chosen := [clip for clip in clips if clip.clip_id in rejected]:
        write_plan(dataset, plan_units(chosen, clips_per_unit, _fingerprint(run, retry)), retry)


def retry_units(dataset: str, run: Run, clips: StoredClips) -> list[WorkUnit]:
    """The units of all retries, with the clips as this run's input has them.

    Raises DatasetError if a unit isn't this run's: its object would get a name that the file has chosen.
    """
    planned = [
        (retry, unit) for retry in range(1, num_retries(dataset) + 1) for unit in read_plan(dataset, retry)
    ]
    wanted = {clip.clip_id for _, unit in planned for clip in unit.clips}
    known = {clip.clip_id: clip for clip in clips if clip.clip_id in wanted} if wanted else {}
    units: list[WorkUnit] = []
    for retry, unit in planned:
        members = [known[clip.clip_id] for clip in unit.clips if clip.clip_id in known]
        expected = plan_units(members, len(unit.clips), _fingerprint(run, retry))
        if [same.unit_id for same in expected] != [unit.unit_id]:
            raise DatasetError(f"{plan_uri(dataset, retry)} is not a plan of this run; move it away")
        units += expected
    return clips.looked_up_columns(units)


def _fingerprint(run: Run, retry: int) -> str:
    """What the ids of a retry's units are hashed with, beside their clips."""
    return f"{run.fingerprint}/{retry}"
