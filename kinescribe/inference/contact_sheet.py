"""A contact sheet: for each step the source, all samples with their scores, and a mark on the best one.

Knows images and numbers, neither models nor codes. The font comes with Pillow, so that a sheet looks the same
on every machine; letters that it lacks are drawn as boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

CELL = 160
"""The side of an image; smaller images are scaled up to it."""
GAP, MARGIN, FRAME = 12, 24, 4
PER_LINE = 8
TITLE, CAPTION = ImageFont.load_default(20), ImageFont.load_default(15)
TITLE_LINE, CAPTION_LINE = 28, 26
PAPER, INK, FAINT, KEPT = "#ffffff", "#1f2328", "#6e7781", "#1a7f37"
LEGEND = "numbers: log p(action | source, sample)"


class Step(NamedTuple):
    """The samples drawn for one action."""

    action: str
    source: Image.Image
    samples: list[Image.Image]
    scores: list[float]
    """log p(action | source, sample) of the dynamics model, summed over the action's tokens."""
    best: int
    """The index of the kept sample."""


def contact_sheet(steps: Sequence[Step]) -> Image.Image:
    """An RGB image of all steps, one below the other. They must have the same number of samples."""
    columns = 1 + min(PER_LINE, len(steps[0].samples))
    width = 2 * MARGIN + columns * (CELL + GAP)
    numbers = [f"{number}. " if len(steps) > 1 else "" for number in range(1, len(steps) + 1)]
    blocks = [_block(number + step.action, step, width) for number, step in zip(numbers, steps, strict=True)]
    top, height = 0, sum(block.height for block in blocks)
    sheet = Image.new("RGB", (width, height + CAPTION_LINE + MARGIN), PAPER)
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    ImageDraw.Draw(sheet).text((MARGIN, height + GAP), LEGEND, FAINT, CAPTION)
    return sheet


def _block(title: str, step: Step, width: int) -> Image.Image:
    """One step: its action, and below it the source and the samples, `PER_LINE` per line."""
    titles = list(_wrapped(title, width - 2 * MARGIN))
    top, pitch = MARGIN + len(titles) * TITLE_LINE + GAP, CELL + CAPTION_LINE + GAP
    num_lines = -(-len(step.samples) // PER_LINE)
    block = Image.new("RGB", (width, top + num_lines * pitch - GAP), PAPER)
    for index, text in enumerate(titles):
        ImageDraw.Draw(block).text((MARGIN, MARGIN + index * TITLE_LINE), text, INK, TITLE)
    _put(block, (MARGIN, top), step.source, "source", FAINT)
    for index, (sample, score) in enumerate(zip(step.samples, step.scores, strict=True)):
        line, column = divmod(index, PER_LINE)
        # A gap separates the samples from the source.
        place = (MARGIN + (column + 1) * (CELL + GAP) + GAP, top + line * pitch)
        if index == step.best:
            _frame(block, place)
            _put(block, place, sample, f"#{index}   {score:.2f}   best", KEPT)
        else:
            _put(block, place, sample, f"#{index}   {score:.2f}", INK)
    return block


def _put(block: Image.Image, place: tuple[int, int], picture: Image.Image, caption: str, ink: str) -> None:
    block.paste(picture.resize((CELL, CELL), Image.Resampling.BICUBIC), place)
    ImageDraw.Draw(block).text((place[0], place[1] + CELL + FRAME + 1), caption, ink, CAPTION)


def _frame(block: Image.Image, place: tuple[int, int]) -> None:
    left, top = place
    corners = (left - FRAME, top - FRAME, left + CELL + FRAME - 1, top + CELL + FRAME - 1)
    ImageDraw.Draw(block).rectangle(corners, KEPT)


def _wrapped(text: str, width: int) -> Iterator[str]:
    """The text in lines of at most `width` pixels, unless a single word is wider."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and TITLE.getlength(longer) > width:
            yield line
            longer = word
        line = longer
    yield line
