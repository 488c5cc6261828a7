from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageColor

from kinescribe.inference.contact_sheet import CELL, KEPT, MARGIN, PAPER, PER_LINE, Step, contact_sheet

SOURCE = (255, 200, 0)


def step(num_samples: int, best: int = 0, action: str = "pan left") -> Step:
    """Samples in colours of their own, 8 pixels wide."""
    samples = [Image.new("RGB", (8, 8), colour(index)) for index in range(num_samples)]
    return Step(
        action, Image.new("RGB", (8, 8), SOURCE), samples, [-1.5 * i for i in range(num_samples)], best
    )


def colour(index: int) -> tuple[int, int, int]:
    return (0, 100, 2 * index)


def places(steps: Sequence[Step], wanted: tuple[int, ...]) -> np.ndarray:
    """(row, column) of every pixel of a colour, shape (P, 2)."""
    return np.argwhere((np.asarray(contact_sheet(steps)) == wanted).all(-1))


@pytest.mark.parametrize("num_samples", [1, PER_LINE, PER_LINE + 1, 3 * PER_LINE])
def test_the_source_and_every_sample_are_shown_whole_and_once(num_samples: int):
    for wanted in (SOURCE, *map(colour, range(num_samples))):
        found = places([step(num_samples)], wanted)
        assert len(found) == CELL * CELL
        assert (np.ptp(found, axis=0) == CELL - 1).all()


def test_the_best_sample_stands_in_a_frame_and_no_other_does():
    framed = places([step(5, best=3)], ImageColor.getrgb(KEPT))
    best = places([step(5, best=3)], colour(3))
    assert (framed.min(0) < best.min(0)).all()
    assert framed[:, 1].max() > best[:, 1].max()
    near = np.abs(framed - (best.min(0) + best.max(0)) / 2).max(1)
    assert near.max() < CELL


def test_each_step_has_a_row_below_the_one_before():
    tops = [places([step(2), step(2)], SOURCE)[:, 0], places([step(2)], SOURCE)[:, 0]]
    assert tops[0].min() == tops[1].min()
    assert len(tops[0]) == 2 * len(tops[1])
    assert tops[0].max() > tops[1].max() + CELL


def test_a_long_action_goes_on_in_the_next_line():
    sheet = contact_sheet([step(1, action="take the cup from the table and put it back upside down")])
    assert sheet.height > contact_sheet([step(1)]).height
    margin = np.asarray(sheet)[:, -MARGIN + 4 :]
    assert (margin == ImageColor.getrgb(PAPER)).all()
