from dataclasses import replace

import pytest

from kinescribe.labeling.units import plan_units, unit_ids
from kinescribe.storage.clips import ROWS_PER_FRAME, StoredClips, clips_of, frame_of
from kinescribe.storage.plan import plan_digest, read_plan, write_plan_tables
from tests.tiny_dataset import clip

CLIPS = [
    clip("a"),
    replace(clip("ü"), action_class=None, start_s=1.5, end_s=1e-7, size_bytes=None),
    replace(clip("c"), start_s=0.1, end_s=None),
    replace(clip("d"), start_s=1 / 3, end_s=1e22),
]


def test_a_frame_holds_clips_as_they_were():
    assert list(clips_of(frame_of(CLIPS))) == CLIPS
    assert list(clips_of(frame_of([]))) == []


@pytest.mark.parametrize("parts", [[CLIPS], [CLIPS[:2], [], CLIPS[2:]]])
def test_stored_clips_are_the_clips_in_order(parts: list[list]):
    stored = StoredClips(frame_of(part) for part in parts)
    for _ in range(2):
        assert list(stored) == CLIPS
    assert len(stored) == 4
    assert list(stored.ids()) == [one.clip_id for one in CLIPS]
    assert stored.digest == plan_digest(CLIPS)


@pytest.mark.parametrize("clips_per_unit", [1, 3, 16])
def test_their_plan_is_that_of_the_clips_as_objects(clips_per_unit: int, tmp_path):
    clips = [clip(str(index)) for index in range(ROWS_PER_FRAME + 7)]
    stored = StoredClips(frame_of(part) for part in (clips[:100], clips[100:]))
    ids = unit_ids(stored.ids(), clips_per_unit, "fingerprint")
    write_plan_tables(str(tmp_path), stored.planned(ids, clips_per_unit))
    assert list(read_plan(str(tmp_path))) == plan_units(clips, clips_per_unit, "fingerprint")
