"""Extracts frame pairs from clips: session objects that keep a decoding process.

Anything wrong with a clip becomes its outcome. Nothing of a clip is decoded in this process.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from kinescribe.media.decode_protocol import DecodeReply, DecodeRequest, Reply
from kinescribe.media.sandbox import Sandbox
from kinescribe.schemas.clips import Clip, ExtractedClip, FramePair, GivenTriplet, KeyFrame
from kinescribe.schemas.config import DecodeLimits, KeyFrames, Limits, Quality, StoredImage
from kinescribe.schemas.errors import StoreError, UserError
from kinescribe.schemas.outcomes import ClipOutcome, DropReason, Note, RejectCode, Rejected, Status
from kinescribe.storage.objects import local_copy
from kinescribe.storage.uri import is_local

DECODER = (sys.executable, "-m", "kinescribe.media.decode_worker")
LEAVES_OUT = frozenset(
    (
        RejectCode.TOO_SHORT,
        RejectCode.UNREADABLE,
        RejectCode.TIMEOUT,
        RejectCode.CRASHED,
        RejectCode.OUT_OF_MEMORY,
    )
)
"""What may come up in a later window of a clip, without being the outcome of the clip."""
Forbidden = Callable[[str], str | None]
"""Says why a URI must not be read, or None."""
AnyReply = TypeVar("AnyReply", bound=Reply)


def allow_all(_uri: str) -> None:
    """Forbids no URI."""


class Decoder(Generic[AnyReply]):
    """Decodes files of any store in a process of their own, which runs `program` and sends a `reply`."""

    def __init__(
        self, limits: DecodeLimits, forbidden: Forbidden, program: Sequence[str], reply: type[AnyReply]
    ) -> None:
        self._forbidden = forbidden
        self._reply = reply
        self._sandbox = Sandbox(program, limits.deadline_s, limits.memory_bytes)

    def close(self) -> None:
        """End the decoding process."""
        self._sandbox.close()

    def _decode(self, uris: Sequence[str], make_request: Callable[[Sequence[Path]], BaseModel]) -> AnyReply:
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

    def _validated(self, answer: bytes) -> AnyReply:
        """The answer as a reply: a decoder that a hostile file has taken over may send anything."""
        try:
            reply = self._reply.model_validate_json(answer)
        except ValidationError as error:
            self.close()
            raise Rejected(RejectCode.CRASHED, "the decoder's answer is not a reply") from error
        if reply.reject is RejectCode.OUT_OF_MEMORY:
            self.close()  # its memory is fragmented
        if reply.reject is not None:
            raise Rejected(reply.reject, reply.message)
        return reply


class PairExtractor(Decoder[DecodeReply]):
    """Extracts the key frames and frame pairs of one clip at a time."""

    def __init__(
        self,
        limits: Limits,
        keyframes: KeyFrames,
        image: StoredImage,
        forbidden: Forbidden = allow_all,
        decoder: Sequence[str] = DECODER,
        quality: Quality = (),
        context_frames: int = 0,
    ) -> None:
        super().__init__(limits, forbidden, decoder, DecodeReply)
        self._limits = limits
        self._keyframes = keyframes
        self._image = image
        self._quality: Quality = quality
        self._context_frames = context_frames

    def extract(self, clip: Clip) -> ExtractedClip:
        """The clip's pairs, or its outcome if it has none. Never raises for a bad clip.

        A clip that turns out to be longer than `limits.window_s` is decoded in windows of that length.
        """
        return _extracted(clip, lambda: self._windows(clip))

    def duration_s(self, clip: Clip) -> float | None:
        """The duration of the clip's file; None if its packets have no times, or if it can't be read."""
        try:
            return self._request(clip, "duration").duration_s
        except Rejected:
            return None

    def _windows(self, clip: Clip) -> Iterator[DecodeReply]:
        """The replies for the windows of a clip. Raises Rejected."""
        start_s, reply = clip.start_s, self._request(clip, "pairs")
        yield reply
        while reply.goes_on:
            start_s = (start_s or 0.0) + self._limits.window_s
            if start_s - (clip.start_s or 0.0) >= self._limits.max_duration_s:
                most_s = self._limits.max_duration_s
                raise Rejected(
                    RejectCode.TOO_LARGE, f"longer than limits.max_duration_s, which is {most_s:.0f}"
                )
            reply = self._request(replace(clip, start_s=start_s), "pairs")
            yield reply

    def _request(self, clip: Clip, task: Literal["pairs", "duration"]) -> DecodeReply:
        return self._decode(
            [clip.uri],
            lambda paths: DecodeRequest(
                task=task,
                path=paths[0],
                start_s=clip.start_s,
                end_s=clip.end_s,
                window_s=self._limits.window_s,
                limits=self._limits,
                keyframes=self._keyframes,
                image=self._image,
                quality=self._quality,
                context_frames=self._context_frames,
            ),
        )


class SegmentExtractor(Decoder[DecodeReply]):
    """Extracts the two frames of one given triplet at a time."""

    def __init__(
        self,
        limits: DecodeLimits,
        image: StoredImage,
        forbidden: Forbidden = allow_all,
        decoder: Sequence[str] = DECODER,
    ) -> None:
        super().__init__(limits, forbidden, decoder, DecodeReply)
        self._limits = limits
        self._image = image

    def extract(self, triplet: GivenTriplet) -> ExtractedClip:
        """The triplet's pair, or its outcome if it has none. Never raises for a bad triplet."""
        return _extracted(triplet.clip, lambda: iter([self._request(triplet)]))

    def ends(self, clip: Clip) -> Sequence[KeyFrame]:
        """The clip's first and last frame, or one if they are the same. Raises Rejected."""
        return self._request(GivenTriplet(clip, "anything", (clip.uri,))).frames

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


def _extracted(clip: Clip, windows: Callable[[], Iterator[DecodeReply]]) -> ExtractedClip:
    """The clip with what the decoder replied for its windows, or with the outcome that follows from it.

    Where a later window can't be decoded, what came before it is kept.
    """
    replies: list[DecodeReply] = []
    message = ""
    try:
        replies.extend(windows())  # keeps those before an error
    except Rejected as error:
        if not replies or error.code not in LEAVES_OUT:
            outcome = ClipOutcome(clip.clip_id, Status.REJECTED, reason=error.code, message=error.message)
            return ExtractedClip(clip, outcome=outcome)
        if error.code is not RejectCode.TOO_SHORT:
            message = f"left out after {len(replies)} windows: {error}"
    return _joined(clip, replies, message)


def _joined(clip: Clip, replies: Sequence[DecodeReply], message: str) -> ExtractedClip:
    """The clip with the pairs of its windows, or dropped if there are none."""
    frames: list[KeyFrame] = []
    pairs: list[FramePair] = []
    drops: Counter[str] = Counter()
    for reply in replies:
        first = len(frames)
        pairs += (replace(one, source=first + one.source, target=first + one.target) for one in reply.pairs)
        frames += reply.frames
        drops.update(reply.pair_drops)
    found = frozenset[Note]().union(*(reply.notes for reply in replies))
    notes = tuple(sorted(found | {Note.INCOMPLETE} if message else found))
    if pairs:
        return ExtractedClip(clip, tuple(frames), tuple(pairs), dict(drops), None, notes, message)
    reason = DropReason(max(sorted(drops), key=drops.__getitem__, default=DropReason.FEW_KEYFRAMES))
    outcome = ClipOutcome(clip.clip_id, Status.DROPPED, 0, reason, message, dict(drops), notes)
    return ExtractedClip(clip, pair_drops=dict(drops), outcome=outcome)
