import pytest
import torch

from kinescribe.actors.attempts import Attempts
from kinescribe.actors.label import LabelActor
from kinescribe.actors.rows import pack, unpack
from kinescribe.models.endpoint import Endpoint
from kinescribe.models.endpoint_vlm import EndpointVLM
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.errors import ServerAway
from kinescribe.schemas.outcomes import RejectCode, StageTime, Status
from tests.fake_clips import UNIT_ID, extracted, rejected, unit
from tests.judge_server import Answer, JudgeServer, serving
from tests.ports import free_ports
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
        Resources(micro_batch=4),
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
        LabelActor(lambda config: (model, model.codec), LabelConfig(), Resources(), 1, gpus, Attempts(9))
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


def test_a_server_that_stays_away_is_an_error_of_the_run_and_rejects_nothing(model, monkeypatch):
    monkeypatch.setattr("kinescribe.models.endpoint_vlm.PATIENCE_S", 0.1)
    monkeypatch.setattr("kinescribe.models.endpoint.POLL_S", 0.01)
    (port,) = free_ports(1)
    served = EndpointVLM(Endpoint("vlm", f"http://127.0.0.1:{port}/v1", max_retries=0))
    clips, attempts = [extracted("a")], Attempts(9)
    actor = LabelActor(lambda config: (served, model.codec), LabelConfig(), Resources(), 1, 0.0, attempts)
    error = unpack(actor(pack("unit", (unit(*clips), clips, DECODE))))
    assert isinstance(error, ServerAway)
    assert attempts.news() == (1, [f"{served.name} does not answer; waiting up to 0.00166667 min for it"])


def test_waiting_for_a_server_is_no_work(model):
    with serving(JudgeServer(always=Answer("pan left", finish_reason="stop", delay_s=1))) as server:
        served = EndpointVLM(Endpoint("vlm", server.url))
        clips = [extracted("a")]
        actor = LabelActor(
            lambda config: (served, model.codec), LabelConfig(), Resources(), 1, 0.0, Attempts(9)
        )
        *_, (_, label) = unpack(actor(pack("unit", (unit(*clips), clips, DECODE))))
    assert label.work_s < 0.8 < 1 < label.seconds


def test_all_pairs_of_a_unit_are_asked_about_at_once_and_frames_are_encoded_in_small_batches(model):
    with serving(JudgeServer(always=Answer("pan left", finish_reason="stop", delay_s=2))) as server:
        served = EndpointVLM(Endpoint("vlm", server.url))
        clips = [extracted(str(number), 6) for number in range(5)]
        actor = LabelActor(
            lambda config: (served, model.codec), LabelConfig(), Resources(), 1, 0.0, Attempts(9)
        )
        assert actor.annotator.encoder.batches.size == 16
        actor(pack("unit", (unit(*clips), clips, DECODE)))
    assert len(server.asked) == 25
    assert server.most_at_once > 16  # what a model on a CPU gets at once
