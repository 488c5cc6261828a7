"""The messages between `check --frames` and its process with the second decoder, as JSON.

JSON for the reason in `decode_protocol`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kinescribe.media.decode_protocol import Reply
from kinescribe.schemas.config import DecodeLimits
from kinescribe.schemas.frame_check import Incomparable


class StoredFrame(BaseModel):
    """A frame of a dataset: its time in seconds after the video's start, and its JPEG or PNG."""

    model_config = ConfigDict(
        frozen=True, ser_json_bytes="base64", val_json_bytes="base64", allow_inf_nan=False
    )

    time_s: float
    image: bytes


class ComparisonRequest(BaseModel):
    """A video, and the source and target of each of its rows."""

    model_config = ConfigDict(frozen=True)

    path: Path
    pairs: tuple[tuple[StoredFrame, StoredFrame], ...]
    limits: DecodeLimits


class ComparedFrame(BaseModel):
    """Whether a stored frame is the video's at its time; else what it shows, or why that can't be said."""

    model_config = ConfigDict(frozen=True)

    is_right: bool = False
    seen: Annotated[str, Field(max_length=1000)] = ""
    not_comparable: Incomparable | None = None


class ComparisonReply(Reply):
    """The frames of each pair of the request, or why none of the video can be compared."""

    pairs: tuple[tuple[ComparedFrame, ComparedFrame], ...] = ()
    not_comparable: Incomparable | None = None
