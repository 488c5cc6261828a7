from pathlib import Path

from kinescribe.media.decode_protocol import DecodeReply, DecodeRequest
from kinescribe.media.decode_worker import answer
from kinescribe.schemas.config import DecodeLimits, StoredImage
from kinescribe.schemas.outcomes import RejectCode
from tests.videos import pan, write_video


def reply(path: Path, task: str) -> DecodeReply:
    job = DecodeRequest.model_validate(
        {"task": task, "path": path, "limits": DecodeLimits(), "image": StoredImage()}
    )
    return DecodeReply.model_validate_json(answer(job.model_dump_json().encode()))


def test_the_reply_carries_the_reject(tmp_path: Path):
    rejected = reply(tmp_path / "none.mp4", "pairs")
    assert (rejected.reject, rejected.message) == (RejectCode.MISSING, "no such file")


def test_each_task_has_its_reply(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", pan(90))
    assert len(reply(path, "pairs").frames) > 2
    assert len(reply(path, "ends").frames) == 2
    assert reply(path, "duration").duration_s is not None
