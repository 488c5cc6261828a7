"""The program that runs in the sandbox: reads a `DecodeRequest`, answers with a `DecodeReply`.

Knows nothing of stores, datasets or clips.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2

from kinescribe.media.decode_protocol import DecodeReply, DecodeRequest, Reply
from kinescribe.media.frame_pairs import duration, frame_pairs
from kinescribe.media.sandbox import memory_is_exhausted, serve
from kinescribe.media.segment_frames import segment_frames, still_frames
from kinescribe.schemas.outcomes import RejectCode, Rejected

TASKS: dict[str, Callable[[DecodeRequest], DecodeReply]] = {
    "pairs": frame_pairs,
    "duration": duration,
    "ends": segment_frames,
    "stills": still_frames,
}


def answer(request: bytes) -> bytes:
    """The encoded reply to an encoded request, which is a reject if the file can't be used."""
    decoded = DecodeRequest.model_validate_json(request)
    return reply_or_reject(lambda: TASKS[decoded.task](decoded)).model_dump_json().encode()


def reply_or_reject(task: Callable[[], Reply]) -> Reply:
    """The reply of a task, which is a reject if it raises Rejected or lacks memory."""
    try:
        return task()
    except Rejected as error:
        if error.code is RejectCode.UNREADABLE and memory_is_exhausted():
            return Reply(reject=RejectCode.OUT_OF_MEMORY, message=f"near the memory limit: {error.message}")
        return Reply(reject=error.code, message=error.message)
    except MemoryError as error:
        return Reply(reject=RejectCode.OUT_OF_MEMORY, message=str(error))
    except cv2.error as error:
        if error.code != cv2.Error.StsNoMem:
            raise
        return Reply(reject=RejectCode.OUT_OF_MEMORY, message=error.err)


if __name__ == "__main__":
    cv2.setNumThreads(1)  # each core decodes another clip, and the sandbox forbids a second thread
    serve(answer)
