"""What `label --retry-rejected` plans, and how it treats earlier plans. No unit is labelled."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from kinescribe.cluster.label import plan_label, planned_run
from kinescribe.cluster.pipeline import LabelJob, Sessions
from kinescribe.labeling.retries import plan_retry
from kinescribe.labeling.units import plan_units
from kinescribe.schemas.clips import WorkUnit
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.outcomes import RejectCode
from kinescribe.storage.clips import StoredClips
from kinescribe.storage.plan import num_retries, plan_uri, read_plan, write_plan
from kinescribe.storage.run import Run, bind
from tests.fake_clips import FakeExtractor
from tests.tiny_dataset import commit
from tests.tiny_vlm import tiny_vlm


class Planned(NamedTuple):
    """A run of three clips, each in its own unit, none of them committed."""

    job: LabelJob
    run: Run
    clips: StoredClips
    units: list[WorkUnit]

    def pending_units(self) -> int:
        return plan_label(self.job.input, self.job.out, self.job.config).pending_units


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    source, out, model = (tmp_path / name for name in ("clips", "out", "model"))
    tiny_vlm().save(model)
    source.mkdir()
    for name in "abc":
        (source / f"{name}.mp4").write_bytes(b"x")
    config, sessions = LabelConfig(dynamics=str(model), clips_per_unit=1), Sessions(FakeExtractor)
    run, clips = planned_run(str(source), config, sessions)
    units = plan_units([*clips], 1, run.fingerprint)
    bind(str(out), run)
    write_plan(str(out), units)
    return Planned(LabelJob(str(source), str(out), config, Resources(), sessions), run, clips, units)


def test_a_retry_of_another_run_is_refused(planned: Planned):
    out = planned.job.out
    (clip,) = planned.units[0].clips
    forged = [WorkUnit("../../elsewhere", (clip,)), WorkUnit("0" * 32, (replace(clip, clip_id="foreign"),))]
    for unit in (*forged, *planned.units):
        write_plan(out, [unit], retry=1)
        with pytest.raises(DatasetError, match=r"retry-0001\.parquet is not a plan of this run; move"):
            planned.pending_units()
        Path(plan_uri(out, 1)).unlink()
    write_plan(out, plan_units([clip], 1, f"{planned.run.fingerprint}/1"), retry=1)
    assert planned.pending_units() == 4


def test_an_interrupted_retry_is_resumed_and_its_clips_are_not_planned_again(planned: Planned):
    job, run, clips, units = planned
    bad = {clip.clip_id: RejectCode.TIMEOUT for clip in clips}
    for unit in units[:2]:
        commit(job.out, unit, bad)
    for _ in range(2):
        plan_retry(job.out, run, clips, 1)
        assert num_retries(job.out) == 1
    first, second = read_plan(job.out, 1)
    assert [first.clips, second.clips] == [unit.clips for unit in units[:2]]
    commit(job.out, first, bad)
    plan_retry(job.out, run, clips, 1)
    (again,) = read_plan(job.out, 2)
    assert again.clips == first.clips
    assert planned.pending_units() == 3


def test_without_rejects_no_retry_is_planned(planned: Planned):
    job, run, clips, units = planned
    for unit in units:
        commit(job.out, unit, {clip.clip_id: 1 for clip in clips})
    plan_retry(job.out, run, clips, 1)
    assert num_retries(job.out) == 0
