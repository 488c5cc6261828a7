"""Extracts frame pairs from clips: session objects that keep a decoding process.

Anything wrong with a clip becomes its outcome. Nothing of a clip is decoded in this process.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
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
from kinescribe.storage.uri import is_local

DECODER = (sys.executable, "-m", "kinescribe.media.decode_worker")
Forbidden = Callable[[str], str | None]
"""Says why a URI must not be read, or None."""


def allow_all(_uri: str) -> None:
    """Forbids no URI."""


class Decoder:
    """Decodes files of any store in a process of their own, which runs `program`."""

    def __init__(self, limits: DecodeLimits, forbidden: Forbidden, program: Sequence[str]) -> None:
        self._forbidden = forbidden
        self._sandbox = Sandbox(program, limits.deadline_s, limits.memory_bytes)

    def close(self) -> None:
        """End the decoding process."""
        self._sandbox.close()

    def _decode(
        self, uris: Sequence[str], make_request: Callable[[Sequence[Path]], DecodeRequest]
    ) -> DecodeReply:
        """The reply to a request that is made from the local paths of these files. Raises Rejected."""
        self._require_allowed(uris)
        try:
            with contextlib.ExitStack() as copies:
                paths = [copies.enter_context(local_copy(uri)).absolute() for uri in uris]
                answer = self._sandbox.call(make_request(paths).model_dump_json().encode())
        except FileNotFoundError as error:
            raise Rejected(RejectCode.MISSING, str(error)) from error
        except StoreError as error:
            raise Rejected(RejectCode.UNREACHABLE, str(error)) from error
        except (OSError, UserError) as error:
            raise Rejected(RejectCode.UNREADABLE, str(error)) from error
        reply = self._validated(answer)
        if all(map(is_local, uris)):  # what is downloaded is opened in a folder of our own
            # Again, because a path may have become a link since.
            self._require_allowed(reply.opened)
        return reply

    def _require_allowed(self, uris: Iterable[str]) -> None:
        for uri in uris:
            reason = self._forbidden(uri)
            if reason is not None:
                raise Rejected(RejectCode.FORBIDDEN, reason)

    def _validated(self, answer: bytes) -> DecodeReply:
        """The answer as a reply: a decoder that a hostile file has taken over may send anything."""
        try:
            reply = DecodeReply.model_validate_json(answer)
        except ValidationError as error:
            self.close()
            raise Rejected(RejectCode.CRASHED, "the decoder's answer is not a reply") from error
        if reply.reject is RejectCode.OUT_OF_MEMORY:
            self.close()  # its memory is fragmented
        if reply.reject is not None:
            raise Rejected(reply.reject, reply.message)
        return reply


class PairExtractor(Decoder):
    """Extracts the key frames and frame pairs of one clip at a time."""

    def __init__(
        self,
        limits: Limits,
        keyframes: KeyFrames,
        image: StoredImage,
        forbidden: Forbidden = allow_all,
        decoder: Sequence[str] = DECODER,
    ) -> None:
        super().__init__(limits, forbidden, decoder)
        self._limits = limits
        self._keyframes = keyframes
        self._image = image

    def extract(self, clip: Clip) -> ExtractedClip:
        """The clip's pairs, or its outcome if it has none. Never raises for a bad clip."""
        return _extracted(clip, lambda: self._request(clip, "pairs"))

    def duration_s(self, clip: Clip) -> float | None:
        """The duration that the clip's file states; None if it states none or can't be read."""
        try:
            return self._request(clip, "duration").duration_s
        except Rejected:
            return None

    def _request(self, clip: Clip, task: Literal["pairs", "duration"]) -> DecodeReply:
        return self._decode(
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


class SegmentExtractor(Decoder):
    """Extracts the two frames of one given triplet at a time."""

    def __init__(
        self,
        limits: DecodeLimits,
        image: StoredImage,
        forbidden: Forbidden = allow_all,
        decoder: Sequence[str] = DECODER,
    ) -> None:
        super().__init__(limits, forbidden, decoder)
        self._limits = limits
        self._image = image

    def extract(self, triplet: GivenTriplet) -> ExtractedClip:
        """The triplet's pair, or its outcome if it has none. Never raises for a bad triplet."""
        return _extracted(triplet.clip, lambda: self._request(triplet))

    def _request(self, triplet: GivenTriplet) -> DecodeReply:
        if not re.search(r"\w", triplet.action):
            raise Rejected(RejectCode.NO_ACTION, "the action has no words")
        clip = triplet.clip
        return self._decode(
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


def _extracted(clip: Clip, request: Callable[[], DecodeReply]) -> ExtractedClip:
    """The clip with the decoder's reply, or with the outcome that follows from it."""
    try:
        reply = request()
    except Rejected as error:
        outcome = ClipOutcome(clip.clip_id, Status.REJECTED, reason=error.code, message=error.message)
        return ExtractedClip(clip, outcome=outcome)
    drops: dict[str, int] = {**reply.pair_drops}
    if reply.pairs:
        return ExtractedClip(clip, reply.frames, reply.pairs, drops)
    reason = DropReason(max(sorted(drops), key=drops.__getitem__, default=DropReason.FEW_KEYFRAMES))
    outcome = ClipOutcome(clip.clip_id, Status.DROPPED, reason=reason, pair_drops=drops)
    return ExtractedClip(clip, pair_drops=drops, outcome=outcome)
