"""Compares the stored frames of sampled rows with their videos, decoded anew by the second decoder.

A dataset may come from strangers and name any file as a video, so only videos below the working folder, or
below folders that the user names, are read. Nothing of a video is decoded in this process.
"""

from __future__ import annotations

import math
import posixpath
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from kinescribe.labeling.extract import Decoder
from kinescribe.labeling.inputs import OUTSIDE, forbidden
from kinescribe.media.comparison_protocol import (
    ComparedFrame,
    ComparisonReply,
    ComparisonRequest,
    StoredFrame,
)
from kinescribe.schemas.config import DecodeLimits
from kinescribe.schemas.errors import StoreError
from kinescribe.schemas.frame_check import DifferingFrame, FrameCheck, Incomparable
from kinescribe.schemas.outcomes import RejectCode, Rejected
from kinescribe.schemas.rendering import Progress
from kinescribe.storage import objects
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.row_sample import RowSample
from kinescribe.storage.uri import absolute, is_below, is_local

COMPARER = (sys.executable, "-m", "kinescribe.media.comparison_worker")
COLUMNS = ["triplet_id", "clip_id", "video", "source", "target", "source_time_s", "target_time_s"]
FRAMES = ("source", "target")
TIMES = ("source_time_s", "target_time_s")
ROWS_PER_PART = 256
"""Rows that are held, so that a video with several of them is downloaded once."""
ROWS_PER_REQUEST = 32
"""Rows of one video that are compared within one deadline."""
Row = dict[str, Any]


class FrameComparer(Decoder[ComparisonReply]):
    """Compares rows of one video at a time with it. Only videos below `roots` are read."""

    def __init__(self, roots: Sequence[str], program: Sequence[str] = COMPARER) -> None:
        self._limits = DecodeLimits()
        super().__init__(self._limits, partial(not_below, roots=roots), program, ComparisonReply)

    def compare(
        self, video: str, rows: Sequence[Row], size_bytes: int | None = None
    ) -> Sequence[tuple[ComparedFrame, ComparedFrame]]:
        """The compared source and target of each row. `size_bytes` was the video's size, None if unknown.

        Raises Rejected if the video can't be read.
        """
        if self._has_changed(video, size_bytes):
            return _none_of(rows, Incomparable.CHANGED)
        pairs = tuple((_stored(row, "source"), _stored(row, "target")) for row in rows)
        reply = self._decode(
            [video], lambda paths: ComparisonRequest(path=paths[0], pairs=pairs, limits=self._limits)
        )
        if reply.not_comparable:
            return _none_of(rows, reply.not_comparable)
        if len(reply.pairs) != len(rows):
            raise Rejected(RejectCode.CRASHED, "the decoder's answer is not for all rows")
        return reply.pairs

    def _has_changed(self, video: str, size_bytes: int | None) -> bool:
        self._require_allowed([video])
        try:
            now = objects.size_bytes(video) if size_bytes is not None else None
        except StoreError as error:
            raise Rejected(RejectCode.UNREACHABLE, str(error)) from error
        return now is not None and now != size_bytes


def not_below(uri: str, roots: Sequence[str]) -> str | None:
    """Why a video must not be read: it is not below one of these folders. None if it is."""
    if why := forbidden(uri, roots[0], roots):
        return why
    return None if is_local(uri) or any(is_below(uri, root) for root in roots) else OUTSIDE


def check_frames(
    dataset: Dataset,
    sample: RowSample,
    roots: Sequence[str] = (),
    progress: Progress = lambda done, total: None,
) -> FrameCheck:
    """Compare the sampled rows with their videos, if these are below `roots`, or else the working folder."""
    named = [absolute(root) for root in roots] or [str(Path.cwd())]
    total = sum(map(len, sample.by_unit().values()))
    reasons: Counter[str] = Counter()
    differing: list[Sequence[DifferingFrame]] = []
    unread: set[str] = set()
    with closing(FrameComparer(named)) as comparer:
        for done, (row, found) in enumerate(_compared(dataset, sample, comparer), 1):
            if isinstance(found, str):
                reasons[found] += 1
            elif found:
                differing.append(found)
            if found == RejectCode.FORBIDDEN:
                unread.add(row["video"])
            progress(done, total)
    return FrameCheck(
        rows=total,
        right=total - len(differing) - reasons.total(),
        differ=len(differing),
        not_comparable=dict(sorted(reasons.items())),
        differing=[frame for frames in differing for frame in frames],
        read_below=named,
        not_read=common_folder(unread),
    )


def common_folder(uris: Collection[str]) -> str | None:
    """The folder that all of these files are below, None if there are none."""
    if not uris:
        return None
    folders = [posixpath.dirname(uri) for uri in sorted(uris)]
    common = folders[0]
    while not all(is_below(folder, common) for folder in folders):
        if common == (common := posixpath.dirname(common)):
            return folders[0]
    return common


def _compared(
    dataset: Dataset, sample: RowSample, comparer: FrameComparer
) -> Iterator[tuple[Row, Sequence[DifferingFrame] | str]]:
    """Each sampled row with its frames that differ, or the reason for which it can't be compared."""
    rows = _rows(dataset, sample)
    while part := list(islice(rows, ROWS_PER_PART)):
        sizes = _sizes(dataset, {row["clip_id"] for row in part})
        timed: defaultdict[str, list[Row]] = defaultdict(list)
        for row in part:
            if all(row[name] is not None and math.isfinite(row[name]) for name in TIMES):
                timed[row["video"]].append(row)
            else:
                yield row, Incomparable.NO_TIME
        for video, group in timed.items():
            group.sort(key=itemgetter(*TIMES))
            for first in range(0, len(group), ROWS_PER_REQUEST):
                yield from _of_video(video, group[first : first + ROWS_PER_REQUEST], sizes, comparer)


def _rows(dataset: Dataset, sample: RowSample) -> Iterator[Row]:
    for unit_id, triplet_ids in sample.by_unit().items():
        rows = dataset.read_unit(unit_id).select(COLUMNS)
        yield from rows.filter(pc.field("triplet_id").isin(list(triplet_ids))).to_pylist()


def _sizes(dataset: Dataset, clip_ids: Collection[str]) -> dict[str, int | None]:
    """The sizes of the clips' files in bytes, as far as the plan has them."""
    clips = dataset.plans[0].columns(["clip_id", "size_bytes"])
    found = clips.filter(pc.field("clip_id").isin(list(clip_ids)))
    return dict(zip(*(column.to_pylist() for column in found.columns), strict=True))


def _of_video(
    video: str, rows: Sequence[Row], sizes: Mapping[str, int | None], comparer: FrameComparer
) -> Iterator[tuple[Row, Sequence[DifferingFrame] | str]]:
    try:
        compared = comparer.compare(video, rows, sizes.get(rows[0]["clip_id"]))
    except Rejected as error:
        yield from ((row, error.code) for row in rows)
        return
    for row, frames in zip(rows, compared, strict=True):
        differing = [
            DifferingFrame(row["triplet_id"], row["video"], name, row[f"{name}_time_s"], frame.seen)
            for name, frame in zip(FRAMES, frames, strict=True)
            if not (frame.is_right or frame.not_comparable)
        ]
        reasons = [frame.not_comparable for frame in frames if frame.not_comparable]
        yield row, differing or next(iter(reasons), differing)


def _stored(row: Row, name: str) -> StoredFrame:
    return StoredFrame(time_s=row[f"{name}_time_s"], image=row[name]["bytes"])


def _none_of(rows: Sequence[Row], why: Incomparable) -> list[tuple[ComparedFrame, ComparedFrame]]:
    frame = ComparedFrame(not_comparable=why)
    return [(frame, frame)] * len(rows)
