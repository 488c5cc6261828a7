"""The program that runs in the sandbox: a job on a file in, key frames and pairs out, or why there are none.

Knows nothing of how files are decoded, nor of stores, datasets or what a clip is called.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2

from kinescribe.media.decode_protocol import DecodeReply, DecodeRequest
from kinescribe.media.frame_pairs import duration, frame_pairs
from kinescribe.media.sandbox import memory_is_exhausted, serve
from kinescribe.media.segment_frames import segment_ends, still_ends
from kinescribe.schemas.outcomes import RejectCode, Rejected

TASKS: dict[str, Callable[[DecodeRequest], DecodeReply]] = {
    "pairs": frame_pairs,
    "duration": duration,
    "ends": segment_ends,
    "stills": still_ends,
}


def answer(request: bytes) -> bytes:
    """Do a job as it came through the pipe; the reply is a reject where the file cannot be used."""
    job = DecodeRequest.model_validate_json(request)
    try:
        reply = TASKS[job.task](job)
    except Rejected as error:
        reply = DecodeReply(reject=error.code, message=error.message)
        if error.code is RejectCode.UNREADABLE and memory_is_exhausted():
            reply = DecodeReply(reject=RejectCode.OUT_OF_MEMORY, message=f"near the limit, {error.message}")
    except MemoryError as error:
        reply = DecodeReply(reject=RejectCode.OUT_OF_MEMORY, message=str(error))
    except cv2.error as error:
        if error.code != cv2.Error.StsNoMem:
            raise
        reply = DecodeReply(reject=RejectCode.OUT_OF_MEMORY, message=error.err)
    return reply.model_dump_json().encode()


if __name__ == "__main__":
    cv2.setNumThreads(1)  # each core decodes a clip of its own, and the sandbox allows no second thread
    serve(answer)
