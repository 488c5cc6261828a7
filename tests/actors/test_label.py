import pytest
import torch

from kinescribe.actors.attempts import Attempts
from kinescribe.actors.label import LabelActor
from kinescribe.actors.rows import pack, unpack
from kinescribe.schemas.config import LabelConfig
from kinescribe.schemas.outcomes import RejectCode, StageTime, Status
from tests.fake_clips import UNIT_ID, extracted, rejected, unit
from tests.tiny_vlm import tiny_vlm

DECODE = StageTime("decode", 1e9, 1.5, "node/7", 1.2)


@pytest.fixture(scope="module")
def model():
    return tiny_vlm()


def label(model, clips, attempts=None, gpus=0.0):
    asked = []
    config = LabelConfig(dynamics="some/model")
    actor = LabelActor(
        lambda config: asked.append(config) or (model, model.codec),
        config,
        micro_batch=4,
        threads=1,
        gpus=gpus,
        attempts=attempts or Attempts(9),
    )
    assert asked == [config]
    same, table, outcomes, stages = unpack(actor(pack("unit", (unit(*clips), clips, DECODE))))
    assert stages[0] == DECODE
    assert stages[1].stage == "label"
    assert stages[1].work_s <= (gpus or 1) * stages[1].seconds
    return same, table, outcomes


def test_a_unit_becomes_rows_and_outcomes(model):
    clips = [extracted("a"), rejected("r"), extracted("b")]
    same, table, outcomes = label(model, clips)
    assert same == unit(*clips)
    assert [outcome.clip_id for outcome in outcomes] == [clip.clip_id for clip in same.clips]
    assert table.num_rows == sum(outcome.num_triplets for outcome in outcomes) == 4


def test_the_work_of_an_actor_is_its_share_of_a_gpu_times_the_time(model):
    label(model, [extracted("a")], gpus=0.25)


def test_clips_tried_alone_get_the_same_labels(model):
    clips = [extracted("a"), rejected("r"), extracted("b")]
    attempts = Attempts(9)
    attempts.begin(f"label/{UNIT_ID}")
    attempts.begin(f"label/{UNIT_ID}")
    together, alone = label(model, clips)[1], label(model, clips, attempts)[1]
    names = ["triplet_id", "action", "source_codes", "target_codes"]
    assert alone.select(names) == together.select(names)


def test_an_actor_that_shares_a_gpu_allocates_its_share(model, monkeypatch: pytest.MonkeyPatch):
    shares: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    for gpus in (0.0, 0.25, 1.0, 2.0):
        LabelActor(lambda config: (model, model.codec), LabelConfig(), None, 1, gpus, Attempts(9))
    assert shares == [pytest.approx(0.225)]


def test_only_the_clip_that_killed_the_model_is_rejected_as_crashed(model):
    clips = [extracted("a"), rejected("r"), extracted("b")]
    attempts = Attempts(9)
    for key in (f"label/{UNIT_ID}", f"label/{UNIT_ID}", f"label/{UNIT_ID}/0"):
        attempts.begin(key)
    _, table, outcomes = label(model, clips, attempts)
    assert [outcome.status for outcome in outcomes] == [Status.REJECTED, Status.REJECTED, Status.KEPT]
    assert [outcome.reason for outcome in outcomes] == [RejectCode.CRASHED, RejectCode.UNREADABLE, None]
    assert set(table["clip_id"].to_pylist()) == {clips[2].clip.clip_id}


def test_a_clip_that_was_rejected_earlier_keeps_its_reason(model):
    clips = [rejected("r")]
    attempts = Attempts(9)
    for key in (f"label/{UNIT_ID}", f"label/{UNIT_ID}", f"label/{UNIT_ID}/0"):
        attempts.begin(key)
    assert label(model, clips, attempts)[2] == [clips[0].outcome]
