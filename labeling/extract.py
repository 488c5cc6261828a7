"""Clips to frame pairs: the session object that a decode actor holds, and its process for the decoder.

Whatever is wrong with a clip becomes its outcome; nothing that a clip holds is decoded in this process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import ValidationError

from labeling.messages import Job, Reply
from labeling.sandbox import Sandbox
from schemas.clips import Clip, ExtractedClip
from schemas.config import KeyFrames, Limits, StoredImage
from schemas.errors import UserError
from schemas.outcomes import ClipOutcome, DropReason, RejectCode, Rejected, Status
from storage.uri import local_copy

DECODER = (sys.executable, "-m", "labeling.pairs")


def anything(_uri: str) -> None:
    """Forbids no URI."""


class PairExtractor:
    """Takes key frames and frame pairs from one clip at a time.

    `forbidden` says why a URI must not be read, or None. `decoder` is the program that decodes.
    """

    def __init__(
        self,
        limits: Limits,
        keyframes: KeyFrames,
        image: StoredImage,
        forbidden: Callable[[str], str | None] = anything,
        decoder: Sequence[str] = DECODER,
    ) -> None:
        self._limits = limits
        self._keyframes = keyframes
        self._image = image
        self._forbidden = forbidden
        self._sandbox = Sandbox(decoder, limits.deadline_s, limits.memory_bytes)

    def extract(self, clip: Clip) -> ExtractedClip:
        """The clip's pairs, or the outcome that it has instead; never raises for a bad clip."""
        try:
            reply = self._ask(clip, "pairs")
        except Rejected as error:
            outcome = ClipOutcome(clip.clip_id, Status.REJECTED, reason=error.code, message=error.message)
            return ExtractedClip(clip, outcome=outcome)
        drops = dict(reply.pair_drops)
        if reply.pairs:
            return ExtractedClip(clip, reply.frames, reply.pairs, drops)
        reason = DropReason(max(sorted(drops), key=lambda one: drops[one], default=DropReason.FEW_KEYFRAMES))
        outcome = ClipOutcome(clip.clip_id, Status.DROPPED, reason=reason, pair_drops=drops)
        return ExtractedClip(clip, pair_drops=drops, outcome=outcome)

    def duration_s(self, clip: Clip) -> float | None:
        """How long the clip's file says it is, None where it doesn't say or cannot be read."""
        try:
            return self._ask(clip, "duration").duration_s
        except Rejected:
            return None

    def close(self) -> None:
        """End the decoding process."""
        self._sandbox.close()

    def _ask(self, clip: Clip, task: Literal["pairs", "duration"]) -> Reply:
        why = self._forbidden(clip.uri)
        if why is not None:
            raise Rejected(RejectCode.FORBIDDEN, why)
        try:
            with local_copy(clip.uri) as path:
                job = Job(
                    task=task,
                    path=path.absolute(),
                    start_s=clip.start_s,
                    end_s=clip.end_s,
                    limits=self._limits,
                    keyframes=self._keyframes,
                    image=self._image,
                )
                answer = self._sandbox.call(job.model_dump_json().encode())
        except FileNotFoundError as error:
            raise Rejected(RejectCode.MISSING, str(error)) from error
        except (OSError, UserError) as error:
            raise Rejected(RejectCode.UNREADABLE, str(error)) from error
        return self._checked(answer)

    def _checked(self, answer: bytes) -> Reply:
        """The reply, if it is one: a decoder that was taken over may say anything."""
        try:
            reply = Reply.model_validate_json(answer)
        except ValidationError as error:
            self.close()
            raise Rejected(RejectCode.CRASHED, "the decoder's answer is no reply") from error
        if reply.reject is RejectCode.OUT_OF_MEMORY:
            self.close()  # what is left of its memory is in pieces
        if reply.reject is not None:
            raise Rejected(reply.reject, reply.message)
        return reply
