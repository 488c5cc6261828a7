"""What labels say of the camera, against the motion of the background in the stored frames.

Measures any footage, without a truth file. A label counts as one of the camera's if it names a pan, tilt,
zoom or roll with its direction, in the words of the simulated world or in other sentences.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kinescribe.evaluation.label_accuracy import Rate
from kinescribe.media.camera_motion import CameraMotion, camera_motion
from kinescribe.schemas.errors import InputError
from kinescribe.schemas.rendering import BLUE, GREY, ORANGE, Figure, Progress, Table, panels
from kinescribe.simulation.actions import CAMERA, Action, parse
from kinescribe.storage.dataset import Dataset
from kinescribe.storage.stored_image import stored_image

STILL = 0.005
"""The largest shift of a camera that counts as still, as a share of the picture."""
LIMITS = (0.02, 0.05, 0.08, math.inf)
"""Shifts are counted up to each of these."""
LARGE = 0.05
CLEAR = 2.0
"""A motion is clear if it shifts the picture so many times as far as each other one does."""
_NAMED = re.compile(
    r"(?<!\bthe )(?<!\ba )(?<!frying )\b(?P<verb>pan|tilt|zoom|roll)(?:n?ed|n?ing|s)?\b"
    r"(?: (?:the camera|slowly|slightly|quickly|further|to the|to|towards the))* "
    r"(?P<to>left|right|up|down|in|out)\b"
    r"|\bcamera (?:has |is )?(?:moves|moved|moving|shifts|shifted|turns|turned)"
    r"(?: (?:slowly|slightly|quickly|to the|towards the))* (?P<way>left|right|up|down)\b"
)


class Motion(NamedTuple):
    """A camera motion, and how far it shifts the picture, as a share of it."""

    action: Action | None
    """None if the camera is still, or if no motion stands out."""
    shift: float

    @property
    def is_still(self) -> bool:
        """Whether there is none."""
        return self.shift <= STILL


@dataclass(frozen=True, slots=True)
class Shares:
    """What labels say where the camera moved clearly: each a share of the same pairs."""

    right: Rate
    opposite: Rate
    other: Rate
    """Another motion of the camera."""
    none: Rate
    """No motion of the camera."""


@dataclass(frozen=True, slots=True)
class CameraScores:
    """What the labels of a dataset say of the camera."""

    pairs: int
    unmeasured: int
    """Pairs whose background can't be followed."""
    mixed: int
    """Pairs in which no motion stands out."""
    still_called_moving: Rate
    """Of pairs whose camera is still."""
    by_shift: dict[str, Shares]
    """Of clear motions, by how far they shift the picture."""
    by_motion: dict[str, Shares]
    """Of those of at least 5 %, by what they are."""
    simulated_objects: Rate
    """Labels that name an object of the simulated world, of all pairs."""

    def tables(self) -> Iterable[Table]:
        """The counts, and what is said by shift and by motion, with 95 % intervals."""
        yield Table(
            [
                ("pairs", f"{self.pairs:,}"),
                ("background not followed", f"{self.unmeasured:,}"),
                ("no motion stands out", f"{self.mixed:,}"),
                ("still camera called moving", *_shown(self.still_called_moving)),
                ("object of the simulated world named", *_shown(self.simulated_objects)),
            ]
        )
        columns = ("", "pairs", "right", "opposite", "other motion", "no motion")
        for title, groups in (("shift", self.by_shift), ("motion of at least 5 %", self.by_motion)):
            rows = [_row(name, shares) for name, shares in groups.items() if shares.right.total]
            if rows:
                yield Table(rows, f"clear motions, by {title}", columns)

    def draw(self, figure: Figure) -> None:
        """What is said by shift: the four shares on top of each other, with an interval for right ones."""
        (axes,) = panels(figure, 1, width=7.0, height=3.4)
        groups = {name: shares for name, shares in self.by_shift.items() if shares.right.total}
        places, bottom = np.arange(len(groups)), np.zeros(len(groups))
        colours = {"right": BLUE, "opposite": "#c53030", "other": ORANGE, "none": GREY}
        for kind, colour in colours.items():
            heights = np.array([getattr(shares, kind).share for shares in groups.values()])
            axes.bar(places, heights, bottom=bottom, color=colour, label=LEGEND[kind])
            bottom = bottom + heights
        for place, shares in zip(places, groups.values(), strict=True):
            low, high = shares.right.interval
            axes.plot([place, place], [low, high], color="black", linewidth=1)
        names = [f"{name}\n{shares.right.total:,} pairs" for name, shares in groups.items()]
        axes.set_xticks(places, names)
        axes.set(ylim=(0, 1), xlabel="shift of the picture", ylabel="share of pairs with a clear motion")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=4, frameon=False)


LEGEND = {"right": "right", "opposite": "opposite", "other": "another motion", "none": "no motion"}


def _verdict(true: Action, said: Action | None) -> str:
    """The field of `Shares` that a label counts for."""
    if said is None:
        return "none"
    return "right" if said == true else "opposite" if said == true.inverse() else "other"


def _shares(counts: Counter[str]) -> Shares:
    return Shares(**{kind: Rate(counts[kind], counts.total()) for kind in LEGEND})


@dataclass
class _Tally:
    pairs: int = 0
    unmeasured: int = 0
    mixed: int = 0
    still: int = 0
    still_moving: int = 0
    objects: int = 0
    by_shift: dict[str, Counter[str]] = field(
        default_factory=lambda: {_range(place): Counter() for place in range(len(LIMITS))}
    )
    by_motion: dict[str, Counter[str]] = field(
        default_factory=lambda: {
            f"{verb} {direction}": Counter() for verb, ways in CAMERA.items() for direction in ways
        }
    )

    def add(self, text: str, measured: CameraMotion | None) -> None:
        self.pairs += 1
        said, sentence = said_of_camera(text), parse(text)
        self.objects += sentence is not None and not sentence.is_camera
        if measured is None:
            self.unmeasured += 1
            return
        motion = clear_motion(measured)
        if motion.is_still:
            self.still += 1
            self.still_moving += said is not None
        elif motion.action is None:
            self.mixed += 1
        else:
            place = next(place for place, limit in enumerate(LIMITS) if motion.shift < limit)
            verdict = _verdict(motion.action, said)
            self.by_shift[_range(place)][verdict] += 1
            if motion.shift >= LARGE:
                self.by_motion[str(motion.action)][verdict] += 1


def evaluate_camera(
    dataset: str, num: int | None = None, progress: Progress = lambda done, total: None
) -> CameraScores:
    """Measure the labels of all triplets, or of the first `num`.

    Raises DatasetError, and InputError if the dataset has no triplet.
    """
    rows = Dataset.open(dataset).scan(("source", "target", "action"))
    total = min(rows.count_rows(), num or rows.count_rows())
    if not total:
        raise InputError(f"{dataset} has no triplet; name a dataset with some")
    tally = _Tally()
    readers = (read for _, read in rows.units())
    labelled = (row for read in readers for row in read().to_pylist())
    for row, _ in zip(labelled, range(total), strict=False):
        source, target = (np.asarray(stored_image(row[name]["bytes"])) for name in ("source", "target"))
        tally.add(row["action"], camera_motion(source, target))
        progress(tally.pairs, total)
    return CameraScores(
        pairs=tally.pairs,
        unmeasured=tally.unmeasured,
        mixed=tally.mixed,
        still_called_moving=Rate(tally.still_moving, tally.still),
        by_shift={name: _shares(counts) for name, counts in tally.by_shift.items()},
        by_motion={name: _shares(counts) for name, counts in tally.by_motion.items()},
        simulated_objects=Rate(tally.objects, tally.pairs),
    )


def clear_motion(measured: CameraMotion) -> Motion:
    """The motion that stands out; of a zoom or roll, the shift is that of the middle of a side."""
    motions = {
        ("pan", "left" if measured.dx > 0 else "right"): abs(measured.dx),
        ("tilt", "up" if measured.dy > 0 else "down"): abs(measured.dy),
        ("zoom", "in" if measured.zoom > 1 else "out"): abs(math.log(measured.zoom)) / 2,
        ("roll", "left" if measured.roll_deg > 0 else "right"): abs(math.radians(measured.roll_deg)) / 2,
    }
    (first, shift), (_, second), *_ = sorted(motions.items(), key=lambda item: -item[1])
    verb, direction = first
    stands_out = shift > STILL and shift >= CLEAR * second
    return Motion(Action(verb, direction=direction) if stands_out else None, shift)


def said_of_camera(text: str) -> Action | None:
    """The camera motion that a sentence names; None if it names none, or several."""
    found: list[Action] = []
    for match in _NAMED.finditer(" ".join(text.lower().split())):
        way = match["way"]
        direction = match["to"] or way
        verb = match["verb"] or ("pan" if way in CAMERA["pan"] else "tilt")
        if direction in CAMERA[verb]:
            found.append(Action(verb, direction=direction))
    return found[0] if len(set(found)) == 1 else None


def _range(place: int) -> str:
    low, high = (STILL, *LIMITS)[place], LIMITS[place]
    return f"from {100 * low:g} %" if high == math.inf else f"{100 * low:g} to {100 * high:g} %"


def _row(name: str, shares: Shares) -> tuple[str, ...]:
    rates = (getattr(shares, kind) for kind in LEGEND)
    return name, f"{shares.right.total:,}", *(_shown(rate)[0] for rate in rates)


def _shown(rate: Rate) -> tuple[str, ...]:
    if not rate.total:
        return ("no pair",)
    low, high = rate.interval
    return (f"{rate.share:.3f} ({low:.2f} to {high:.2f})", f"{rate.hits:,} of {rate.total:,}")
