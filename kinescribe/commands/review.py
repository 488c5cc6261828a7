"""`kinescribe review …`: people keep, correct or reject labels on a page, and what they say is applied.

Reads options, calls one function, prints its result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kinescribe import review as reviews
from kinescribe.commands.evaluate import draw_plot, require_plot
from kinescribe.commands.options import Dataset, Json, Plot, Seed
from kinescribe.display import print_result, progress_bar

review = typer.Typer(
    help="Have people review labels on a page, and apply what they say.", no_args_is_help=True
)


@review.command("build")
def build(
    dataset: Dataset,
    out: Annotated[str, typer.Option(help="File or URL of the page to write; ends in .html.")],
    num: Annotated[int, typer.Option(min=1, max=2000, help="Number of pairs to review.")] = 200,
    draw: Annotated[
        Literal["random", "stratified", "doubtful"],
        typer.Option(help="Random pairs, the same number of each class, or the least likely ones."),
    ] = "random",
    seed: Seed = 0,
    ids: Annotated[
        str | None, typer.Option(help="File with the ids of the pairs, as reports export them, instead.")
    ] = None,
) -> None:
    """Write one self-contained page on which people keep, correct or reject the actions of a sample."""
    with progress_bar("units") as progress:
        reviews.build(dataset, out, num=num, draw=draw, seed=seed, ids=ids, progress=progress)
    print(out)


@review.command("apply")
def apply(
    dataset: Dataset,
    files: Annotated[list[Path], typer.Argument(metavar="REVIEW", help="Files that the page exported.")],
    out: Annotated[
        str | None,
        typer.Option(help="Write the kept and corrected pairs to this dataset; run again to resume."),
    ] = None,
    score: Annotated[
        Literal["mean", "sum", "contrast"],
        typer.Option(help="The score that a selection would be made by, as in `curate`."),
    ] = "mean",
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Say how precise the labels are, how far raters agree, and what a selection would be worth."""
    require_plot(plot)
    with progress_bar("units") as progress:
        scores = reviews.apply(dataset, files, out, score=score, progress=progress)
    print_result(scores, as_json)
    draw_plot(scores, plot)
