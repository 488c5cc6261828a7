from pathlib import Path

import pytest
from pydantic import ValidationError

from kinescribe.media.decode_protocol import DecodeReply, DecodeRequest
from kinescribe.schemas.clips import FramePair, KeyFrame
from kinescribe.schemas.config import DecodeLimits, KeyFrames, StoredImage
from kinescribe.schemas.outcomes import RejectCode

FRAMES = b'{"frames": [{"time_s": 0, "image": ""}, {"time_s": 1, "image": ""}], "pairs": '


def test_a_reply_survives_json():
    frames = (KeyFrame(0.1, bytes(range(256))), KeyFrame(0.9, b""))
    reply = DecodeReply(frames=frames, pairs=(FramePair(0, 1, 2.5),), pair_drops={"static": 2})
    assert DecodeReply.model_validate_json(reply.model_dump_json()) == reply


def test_a_reject_survives_json():
    reply = DecodeReply(reject=RejectCode.TOO_LARGE, message="9x9 pixels")
    assert DecodeReply.model_validate_json(reply.model_dump_json()) == reply


def test_a_request_survives_json():
    job = DecodeRequest(
        task="pairs",
        path=Path("/clips/ä b.mp4"),
        start_s=1.5,
        limits=DecodeLimits(),
        keyframes=KeyFrames(),
        image=StoredImage(),
    )
    assert DecodeRequest.model_validate_json(job.model_dump_json()) == job


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b'{"pairs": 3}',
        b'{"reject": "bored"}',
        b"\x80\x04N.",
        b'{"pair_drops": {"bored": 1}}',
        b'{"pairs": [{"source": 0, "target": 1, "motion": 1}]}',
        b'{"frames": [{"time_s": 0, "image": ""}], "pairs": [{"source": -1, "target": 0, "motion": 1}]}',
        b'{"frames": [{"time_s": NaN, "image": ""}]}',
        b'{"duration_s": 1e999}',
        b'{"frames": [{"time_s": 0, "image": "", "quality": {"sharpness": -1}}]}',
        b'{"frames": [{"time_s": 0, "image": "", "quality": {"brightness": NaN}}]}',
        b'{"frames": [{"time_s": 0, "image": "", "quality": {"bars": 1.5}}]}',
        b'{"frames": [{"time_s": 0, "image": "", "quality": {"hash": "AAAA"}}]}',
        FRAMES + b'[{"source": 0, "target": 1, "motion": NaN}]}',
        FRAMES + b'[{"source": 0, "target": 1, "motion": 1}, {"source": 0, "target": 1, "motion": 2}]}',
    ],
)
def test_anything_else_is_not_a_reply(answer: bytes):
    with pytest.raises(ValidationError):
        DecodeReply.model_validate_json(answer)
