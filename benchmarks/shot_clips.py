"""Clips for `shots.py`: shots of given footage joined in every way, and single shots that look like more.

A jump cut joins two parts of one video between which a second or more is left out. If its two pictures are
alike, nobody can tell it from motion, so none is made where they correlate by more than `MAX_ALIKE`. In a
split screen one of two videos that stand side by side changes, or neither.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

WIDTH, HEIGHT, RATE = 426, 240, 30
SHOT = 72
"""Frames of a shot."""
MOST_PIECES = 6
"""Of one video."""
BLUR = 8
"""Pictures that make one with motion blur."""
MIN_ALIKE, MAX_ALIKE = 0.5, 0.7
"""Correlations: of neighbours within a shot, and of the pictures at a jump cut."""
TITLE, TEXT = 0.6, 0.35
"""Sizes of letters."""
FASTEST_SCROLL = 24
"""Rows a frame."""

Shot = NDArray[np.uint8]
"""(N, height, width, 3)"""
Footage = dict[str, list[Shot]]
"""Shots by the video that they are from."""
Span = tuple[float, float]
"""Seconds."""


class Kind(NamedTuple):
    """How shots are joined."""

    name: str
    frames: int = 0
    bars: str = ""

    def __str__(self) -> str:
        seconds = f" {self.frames / RATE:.1f} s" if self.frames else ""
        return f"{self.name}{seconds}{self.bars and ' in a ' + self.bars}"


KINDS = [
    *(Kind("one shot", bars=bars) for bars in ("", "pillarbox", "letterbox")),
    Kind("flash", 3),
    *(Kind("whip pan", frames) for frames in (6, 12)),
    Kind("screen recording"),
    Kind("split screen"),
    *(Kind("cut", bars=bars) for bars in ("", "pillarbox", "letterbox")),
    Kind("cut in a split screen"),
    Kind("cut to a still half"),
    Kind("jump cut"),
    *(Kind("dissolve", frames) for frames in (6, 15, 30)),
    Kind("dissolve", 15, "pillarbox"),
    *(Kind(name, frames) for name in ("fade to black", "fade to white") for frames in (15, 30)),
    *(Kind("wipe", frames) for frames in (10, 15, 30)),
    Kind("push", 15),
]


def shots(paths: Sequence[Path]) -> Footage:
    """Pieces without a cut of the start of each video."""
    found: Footage = {}
    for path in paths:
        with av.open(str(path)) as container:
            decoded = itertools.islice(container.decode(video=0), SHOT * MOST_PIECES)
            frames = [_fitted(frame.to_ndarray(format="rgb24")) for frame in decoded]
        pieces = [np.stack(frames[at : at + SHOT]) for at in range(0, len(frames) - SHOT + 1, SHOT)]
        if whole := [
            piece for piece in pieces if min(itertools.starmap(_alike, itertools.pairwise(piece))) > MIN_ALIKE
        ]:
            found[str(path)] = whole
    return found


def _fitted(rgb: Any) -> NDArray[np.uint8]:
    """The middle of the picture, in the size of the clips."""
    scale = max(WIDTH / rgb.shape[1], HEIGHT / rgb.shape[0])
    size = max(WIDTH, round(rgb.shape[1] * scale)), max(HEIGHT, round(rgb.shape[0] * scale))
    large = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    top, left = (large.shape[0] - HEIGHT) // 2, (large.shape[1] - WIDTH) // 2
    return np.asarray(large[top : top + HEIGHT, left : left + WIDTH], np.uint8)


def _alike(old: NDArray[np.uint8], new: NDArray[np.uint8]) -> float:
    """The correlation of two pictures."""
    small = [cv2.resize(frame, (32, 18), interpolation=cv2.INTER_AREA).ravel() for frame in (old, new)]
    correlations: Any = np.corrcoef(np.stack(small))
    return float(correlations[0, 1])


def clips_of(
    by_video: Footage, kind: Kind, num: int, random: Generator, path: Path
) -> Iterator[tuple[Path, Span | None]]:
    """Clips of a kind, one after the other in the same file, and when the shot changes."""
    jumps = {name: _jumps(whole) for name, whole in by_video.items()} if kind.name == "jump cut" else {}
    names = sorted(name for name in by_video if kind.name != "jump cut" or jumps[name])
    for _ in range(num if names else 0):
        if jumps:
            parts = _one_of(jumps[_one_of(names, random)], random)
        else:
            parts = [_one_of(by_video[names[index]], random) for index in random.permutation(len(names))[:3]]
        frames, truth = joined(parts, kind, random)
        write(path, frames)
        yield path, truth


def _jumps(whole: Sequence[Shot]) -> list[tuple[Shot, Shot]]:
    later = ((early, late[RATE:]) for early, late in itertools.combinations(whole, 2))
    return [(early, late) for early, late in later if _alike(early[-1], late[0]) < MAX_ALIKE]


def _one_of(choices: Sequence[Any], random: Generator) -> Any:
    return choices[int(random.integers(len(choices)))]


def joined(parts: Sequence[Shot], kind: Kind, random: Generator) -> tuple[Shot, Span | None]:
    """The frames, and when one shot turns into the other."""
    if kind.name in SINGLE:
        return barred(SINGLE[kind.name](parts, kind.frames, random), kind.bars), None
    first, second = (barred(part, kind.bars) for part in CUT.get(kind.name, _plain)(parts))
    num, last = kind.frames, len(first) - kind.frames
    if not num:
        return np.concatenate([first, second]), ((len(first) - 1) / RATE, len(first) / RATE)
    old, new = first[last:].astype(np.float32), second[:num].astype(np.float32)
    done = ((np.arange(num) + 1) / (num + 1))[:, None, None, None]
    between = BETWEEN[kind.name](old, new, done, random)
    frames = [first[:last], np.clip(np.rint(between), 0, 255).astype(np.uint8), second[num:]]
    return np.concatenate(frames), ((last - 1) / RATE, (last + num) / RATE)


def barred(shot: Shot, bars: str) -> Shot:
    """The shot between black bars."""
    if not bars:
        return shot
    framed = np.full_like(shot, 16)
    if bars == "pillarbox":
        left = (WIDTH - HEIGHT * 9 // 16) // 2
        framed[:, :, left:-left] = shot[:, :, left:-left]
    else:
        top = HEIGHT // 7
        framed[:, top:-top] = shot[:, top:-top]
    return framed


def _flash(parts: Sequence[Shot], num: int, random: Generator) -> Shot:
    bright = parts[0].copy()
    bright[SHOT // 2 : SHOT // 2 + num] = 250
    return bright


def _whip_pan(parts: Sequence[Shot], num: int, random: Generator) -> Shot:
    """The left half, enlarged, and after a fast pan in the middle of the clip the right half."""
    share = np.clip((np.arange(SHOT * BLUR + 1) / BLUR - SHOT // 2) / num, 0, 1)
    left = WIDTH * share * share * (3 - 2 * share)
    return _panned(parts[0], left)


def _panned(shot: Shot, left: NDArray[np.float64]) -> Shot:
    """A view of half the width and height whose left side is at `left`, `BLUR` times in each frame."""
    frames: list[Any] = []
    for index, frame in enumerate(shot):
        wide = cv2.resize(frame, (2 * WIDTH, 2 * HEIGHT))[HEIGHT // 2 :][:HEIGHT].astype(np.float32)
        places = np.unique(np.rint(left[index * BLUR : (index + 1) * BLUR]).astype(int))
        frames.append(sum(wide[:, place : place + WIDTH] for place in places) / len(places))
    return np.rint(np.stack(frames)).astype(np.uint8)


def _side_by_side(left: Shot, right: Shot) -> Shot:
    half, num = WIDTH // 2, min(len(left), len(right))
    return np.concatenate([shot[:num, :, half // 2 :][:, :, :half] for shot in (left, right)], axis=2)


def _screen(parts: Sequence[Shot], num: int, random: Generator) -> Shot:
    """A page of text and pictures, which is scrolled, and a window that pops up and is closed."""
    page = np.full((4 * HEIGHT, WIDTH, 3), 245, np.uint8)
    page[:, : WIDTH // 5] = random.integers(30, 230, 3)
    for top in range(16, len(page) - 60, 60):
        _write_words(page, (WIDTH // 4, top), 4, random)
        if random.random() < 0.5:
            corner = (int(random.integers(WIDTH // 2, WIDTH - 60)), top)
            cv2.rectangle(page, corner, (corner[0] + 50, top + 30), random.integers(0, 256, 3).tolist(), -1)
    window = np.full((HEIGHT // 2, WIDTH // 2, 3), 225, np.uint8)
    window[:14] = random.integers(30, 230, 3)
    _write_words(window, (10, 34), 5, random)
    opened, closed = 2 * SHOT // 3, 2 * SHOT // 3 + int(random.integers(12, SHOT // 3))
    top, goal, frames = 0, 0, []
    for index in range(SHOT):
        if index in (SHOT // 6, SHOT // 3, SHOT // 2):
            goal = int(random.integers(0, 3 * HEIGHT))
        elif index > SHOT // 6:
            top += int(np.clip((goal - top + 2) // 3, -FASTEST_SCROLL, FASTEST_SCROLL))
        frame = page[top : top + HEIGHT].copy()
        if opened <= index < closed:
            frame[HEIGHT // 4 :, WIDTH // 3 :][: len(window), : WIDTH // 2] = window
        frames.append(frame)
    return np.stack(frames)


def _write_words(picture: NDArray[np.uint8], at: tuple[int, int], lines: int, random: Generator) -> None:
    for line in range(lines):
        words = " ".join(
            "".join(map(chr, random.integers(97, 123, length))) for length in random.integers(2, 9, 6)
        )
        size = TEXT if line else TITLE
        cv2.putText(picture, words, (at[0], at[1] + 12 * line), cv2.FONT_HERSHEY_SIMPLEX, size, (40, 40, 40))


SINGLE: dict[str, Callable[[Sequence[Shot], int, Generator], Shot]] = {
    "one shot": lambda parts, num, random: parts[0],
    "flash": _flash,
    "whip pan": _whip_pan,
    "screen recording": _screen,
    "split screen": lambda parts, num, random: _side_by_side(parts[0], parts[1]),
}


def _plain(parts: Sequence[Shot]) -> tuple[Shot, Shot]:
    return parts[0], parts[1]


def _still_half(parts: Sequence[Shot]) -> tuple[Shot, Shot]:
    """The right half of the second shot opens with a fast pan, to and fro; the left half is still."""
    turns = np.arange(SHOT * BLUR + 1) / BLUR / 24
    moving = _panned(parts[1], WIDTH / 2 * (1 + np.sin(2 * np.pi * turns)))
    moving[:, :, : WIDTH // 2] = parts[1][0, :, : WIDTH // 2]
    return parts[0], moving


CUT: dict[str, Callable[[Sequence[Shot]], tuple[Shot, Shot]]] = {
    "cut in a split screen": lambda parts: (
        _side_by_side(parts[0], parts[1])[: SHOT // 2],
        _side_by_side(parts[0][SHOT // 2 :], parts[2]),
    ),
    "cut to a still half": _still_half,
}
"""Both shots, where they are not the plain ones."""


def _wipe(old: Any, new: Any, done: Any, random: Generator) -> Any:
    places = np.linspace(0, 1, WIDTH)[None, None, :, None]
    if random.random() < 0.5:
        places = np.linspace(0, 1, HEIGHT)[None, :, None, None]
    return np.where((places if random.random() < 0.5 else 1 - places) < done, new, old)


def _push(old: Any, new: Any, done: Any, random: Generator) -> Any:
    steps = [int(WIDTH * share) for share in done.ravel()]
    pairs = zip(old, new, steps, strict=True)
    return np.stack([np.hstack([before[:, step:], after[:, :step]]) for before, after, step in pairs])


def _fade(level: float) -> Callable[[Any, Any, Any, Generator], Any]:
    def fade(old: Any, new: Any, done: Any, random: Generator) -> Any:
        strength = np.abs(1 - 2 * done)
        return level + (np.where(done < 0.5, old, new) - level) * strength

    return fade


BETWEEN: dict[str, Callable[[Any, Any, Any, Generator], Any]] = {
    "dissolve": lambda old, new, done, random: old * (1 - done) + new * done,
    "fade to black": _fade(16),
    "fade to white": _fade(235),
    "wipe": _wipe,
    "push": _push,
}


def write(path: Path, frames: Shot) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, image in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
