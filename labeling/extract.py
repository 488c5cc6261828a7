"""Clips to frame pairs: the session objects that hold a process for the decoder.

Whatever is wrong with a clip becomes its outcome; nothing that a clip holds is decoded in this process.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from kinescribe.media.decode_protocol import DecodeReply, DecodeRequest
from kinescribe.media.sandbox import Sandbox
from kinescribe.schemas.clips import Clip, ExtractedClip, GivenTriplet
from kinescribe.schemas.config import DecodeLimits, KeyFrames, Limits, StoredImage
from kinescribe.schemas.errors import StoreError, UserError
from kinescribe.schemas.outcomes import ClipOutcome, DropReason, RejectCode, Rejected, Status
from kinescribe.storage.objects import local_copy

DECODER = (sys.executable, "-m", "kinescribe.media.decode_worker")


def anything(_uri: str) -> None:
    """Forbids no URI."""


class Decoder:
    """Has files of any store decoded in a process of their own.

    `forbidden` says why a URI must not be read, or None. `program` is what decodes.
    """

    def __init__(
        self, limits: DecodeLimits, forbidden: Callable[[str], str | None], program: Sequence[str]
    ) -> None:
        self._forbidden = forbidden
        self._sandbox = Sandbox(program, limits.deadline_s, limits.memory_bytes)

    def ask(self, uris: Sequence[str], job: Callable[[Sequence[Path]], DecodeRequest]) -> DecodeReply:
        """The reply to the job on these files as they lie on this machine. Raises Rejected."""
        for uri in uris:
            why = self._forbidden(uri)
            if why is not None:
                raise Rejected(RejectCode.FORBIDDEN, why)
        try:
            with contextlib.ExitStack() as copies:
                paths = [copies.enter_context(local_copy(uri)).absolute() for uri in uris]
                answer = self._sandbox.call(job(paths).model_dump_json().encode())
        except FileNotFoundError as error:
            raise Rejected(RejectCode.MISSING, str(error)) from error
        except StoreError as error:
            raise Rejected(RejectCode.UNREACHABLE, str(error)) from error
        except (OSError, UserError) as error:
            raise Rejected(RejectCode.UNREADABLE, str(error)) from error
        return self._checked(answer)

    def close(self) -> None:
        """End the decoding process."""
        self._sandbox.close()

    def _checked(self, answer: bytes) -> DecodeReply:
        """The reply, if it is one: a decoder that was taken over may say anything."""
        try:
            reply = DecodeReply.model_validate_json(answer)
        except ValidationError as error:
            self.close()
            raise Rejected(RejectCode.CRASHED, "the decoder's answer is no reply") from error
        if reply.reject is RejectCode.OUT_OF_MEMORY:
            self.close()  # what is left of its memory is in pieces
        if reply.reject is not None:
            raise Rejected(reply.reject, reply.message)
        return reply


class PairExtractor:
    """Takes key frames and frame pairs from one clip at a time; see `Decoder`."""

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
        self._decoder = Decoder(limits, forbidden, decoder)

    def extract(self, clip: Clip) -> ExtractedClip:
        """The clip's pairs, or the outcome that it has instead; never raises for a bad clip."""
        return _ended(clip, lambda: self._ask(clip, "pairs"))

    def duration_s(self, clip: Clip) -> float | None:
        """How long the clip's file says it is, None where it doesn't say or cannot be read."""
        try:
            return self._ask(clip, "duration").duration_s
        except Rejected:
            return None

    def close(self) -> None:
        """End the decoding process."""
        self._decoder.close()

    def _ask(self, clip: Clip, task: Literal["pairs", "duration"]) -> DecodeReply:
        return self._decoder.ask(
            [clip.uri],
            lambda paths: DecodeRequest(
                task=task,
                path=paths[0],
                start_s=clip.start_s,
                end_s=clip.end_s,
                limits=self._limits,
                keyframes=self._keyframes,
                image=self._image,
            ),
        )


class EndsExtractor:
    """Takes the two frames of one given triplet at a time; see `Decoder`."""

    def __init__(
        self,
        limits: DecodeLimits,
        image: StoredImage,
        forbidden: Callable[[str], str | None] = anything,
        decoder: Sequence[str] = DECODER,
    ) -> None:
        self._limits = limits
        self._image = image
        self._decoder = Decoder(limits, forbidden, decoder)

    def extract(self, triplet: GivenTriplet) -> ExtractedClip:
        """The triplet's pair, or the outcome that it has instead; never raises for a bad one."""
        return _ended(triplet.clip, lambda: self._ask(triplet))

    def close(self) -> None:
        """End the decoding process."""
        self._decoder.close()

    def _ask(self, triplet: GivenTriplet) -> DecodeReply:
        if not re.search(r"\w", triplet.action):
            raise Rejected(RejectCode.NO_ACTION, "the action has no words")
        clip = triplet.clip
        return self._decoder.ask(
            triplet.uris,
            lambda paths: DecodeRequest(
                task="ends" if len(paths) == 1 else "stills",
                path=paths[0],
                target=paths[-1],
                start_s=clip.start_s,
                end_s=clip.end_s,
                limits=self._limits,
                image=self._image,
            ),
        )


def _ended(clip: Clip, ask: Callable[[], DecodeReply]) -> ExtractedClip:
    """The clip with what the decoder said, or with the outcome that follows from it."""
    try:
        reply = ask()
    except Rejected as error:
        outcome = ClipOutcome(clip.clip_id, Status.REJECTED, reason=error.code, message=error.message)
        return ExtractedClip(clip, outcome=outcome)
    drops: dict[str, int] = {**reply.pair_drops}
    if reply.pairs:
        return ExtractedClip(clip, reply.frames, reply.pairs, drops)
    reason = DropReason(max(sorted(drops), key=lambda one: drops[one], default=DropReason.FEW_KEYFRAMES))
    outcome = ClipOutcome(clip.clip_id, Status.DROPPED, reason=reason, pair_drops=drops)
    return ExtractedClip(clip, pair_drops=drops, outcome=outcome)
