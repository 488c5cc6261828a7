from kinescribe.actors.attempts import Attempts
from kinescribe.actors.decode import DecodeActor
from kinescribe.actors.rows import pack, unpack
from kinescribe.schemas.clips import WorkUnit
from kinescribe.schemas.config import LabelConfig
from kinescribe.schemas.outcomes import RejectCode, Status
from tests.fake_clips import FakeExtractor, clip


def test_the_clips_of_a_unit_are_extracted_in_order():
    unit = WorkUnit("u", (clip("b"), clip("bad1"), clip("a")))
    actor = DecodeActor(FakeExtractor, LabelConfig(), "root", Attempts(9))
    same, extracted, decode = unpack(actor(pack("u", unit)))
    assert same == unit
    assert [one.clip for one in extracted] == list(unit.clips)
    assert [len(one.pairs) for one in extracted] == [2, 0, 2]
    assert decode.stage == "decode"


def test_the_extractor_gets_the_configuration_and_the_root_of_the_input():
    config = LabelConfig(clips_per_unit=3)
    extractor = DecodeActor(FakeExtractor, config, "root", Attempts(9)).extractor
    assert (extractor.config, extractor.root) == (config, "root")


def test_a_clip_that_killed_its_process_is_rejected_as_crashed():
    unit = WorkUnit("u", (clip("a"), clip("poison")))
    attempts = Attempts(9)
    for key in ("decode/u", "decode/u", "decode/u/1"):  # as three dead actors leave it
        attempts.begin(key)
    _, extracted, _ = unpack(DecodeActor(FakeExtractor, LabelConfig(), "root", attempts)(pack("u", unit)))
    assert extracted[0].outcome is None
    assert extracted[1].outcome.status is Status.REJECTED
    assert extracted[1].outcome.reason is RejectCode.CRASHED
