"""Reads single frames of a local video with decord, the second decoder, which shares no code with the first.

decord's random access is right in MP4 and Matroska. Other files are read from the beginning; of transport and
program streams decord then loses the first frames, up to a key frame. Call it only inside
`kinescribe.media.sandbox`: it may spin for ever. Knows nothing of what its frames are compared with.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import decord
import numpy as np
from numpy.typing import NDArray

from kinescribe.media.probe import opened_files
from kinescribe.media.still_images import Rgb
from kinescribe.schemas.outcomes import RejectCode, Rejected

DECORD_ERRORS = (decord.DECORDError, RuntimeError, AssertionError, MemoryError)
SEEKABLE = {4: b"ftyp", 0: b"\x1aE\xdf\xa3"}
"""How MP4 and Matroska begin, by the place in the file: decord's random access is right in them."""
MIN_SEEK = 256
"""Frames that are skipped by seeking; fewer are decoded, one after another."""
NO_DUPLICATES: Any = 1e-6  # annotated as an integer
"""The share of a video's frames that decord may replace by others without a word, of which it lacks some."""
LATEST_S = 1e9
"""decord's times of packets without a timestamp are far beyond."""


class SecondVideo:
    """A video that decord has opened. `times_s` are its frames' times in seconds, by decord's clock.

    Raises Rejected: unreadable, if decord doesn't open it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seeks = _is_seekable(path)
        self._reader = _opened(path)
        self._place = 0
        self.opened = opened_files()
        """The files that are read."""
        self._lost = 0
        times = self._reader.get_frame_timestamp(range(len(self._reader)))[:, 0].astype(np.float64)
        self.has_timestamps = bool(np.isfinite(times).all() and np.abs(times).max() < LATEST_S)
        """Whether the container has timestamps; else `times_s` are those of a constant rate."""
        rate = self._reader.get_avg_fps()
        constant = np.arange(len(times)) / (rate if math.isfinite(rate) and rate > 0 else 1.0)
        self._keys = self._reader.get_key_indices()
        self.begins_with_key_frame = self._keys[:1] == [0]
        self.times_s: NDArray[np.float64] = times if self.has_timestamps else constant
        if not self._seeks:
            self._lost = self._count_lost()

    def rewind(self) -> bool:
        """Begin again, and don't seek any more. Returns False if nothing was sought so far."""
        if not self._seeks or self._place < MIN_SEEK:
            return False
        self._seeks = False
        self._begin()
        return True

    def _begin(self) -> None:
        self._reader, self._place = _opened(self._path), 0

    def _count_lost(self) -> int:
        """The number of frames that decord loses at the beginning. Raises Rejected if it loses others."""
        num_frames = len(self.times_s)
        lost = num_frames - sum(1 for _ in self.frames(range(num_frames)))
        if lost and lost not in self._keys:
            raise Rejected(RejectCode.UNREADABLE, f"decord: {lost} of {num_frames} frames are lost")
        self._begin()
        return lost

    def frames(self, indices: Iterable[int]) -> Iterator[tuple[int, Rgb]]:
        """Those of the frames with these indices, which ascend, that decord has, each with its index.

        Raises Rejected if decord fails.
        """
        with _files_left(0):
            for index in indices:
                if index < self._lost:
                    continue
                try:
                    picture = self._read(index - self._lost)
                except (StopIteration, decord.DECORDLimitReachedError):
                    return
                except DECORD_ERRORS as error:
                    raise _rejected(error) from error
                yield index, picture

    def _read(self, index: int) -> Rgb:
        if self._seeks and index - self._place >= MIN_SEEK:
            self._reader.seek_accurate(index)
        else:
            for _ in range(self._place, index):
                self._reader.next()  # after `skip_frames`, others come
        self._place = index + 1
        return self._reader.next().asnumpy()


def _opened(path: Path) -> decord.VideoReader:
    try:
        with _files_left(1):
            return decord.VideoReader(str(path.absolute()), num_threads=1, fault_tol=NO_DUPLICATES)
    except (*DECORD_ERRORS, OSError) as error:
        raise _rejected(error) from error


@contextlib.contextmanager
def _files_left(num: int) -> Generator[None]:
    """Let this process open only so many files more: decord follows playlists to other files and hosts."""
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + num, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _is_seekable(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(16)
    return any(start[place:].startswith(magic) for place, magic in SEEKABLE.items())


def _rejected(error: BaseException) -> Rejected:
    code = RejectCode.OUT_OF_MEMORY if isinstance(error, MemoryError) else RejectCode.UNREADABLE
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return Rejected(code, f"decord: {lines[0]:.300}")
