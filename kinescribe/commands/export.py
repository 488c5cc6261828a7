"""`kinescribe export …`: copies a dataset into layouts that other tools read."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated, Literal

import typer

from kinescribe import api
from kinescribe.commands.options import Dataset
from kinescribe.display import progress_bar, warn

export = typer.Typer(
    help="Copy a dataset into a layout that other tools read: WebDataset, the Hugging Face Hub.",
    no_args_is_help=True,
)

Out = Annotated[str, typer.Option(help="Empty folder, or its URL.")]
Select = Annotated[str | None, typer.Option(help="Export only the triplets of this selection of `curate`.")]


@export.command("webdataset")
def webdataset(dataset: Dataset, out: Out, select: Select = None) -> None:
    """Write tars of source.jpg, target.jpg and json with action, score, importance and codes."""
    _export(dataset, out, "webdataset", select)


@export.command("hub")
def hub(dataset: Dataset, out: Out, select: Select = None) -> None:
    """Write Parquet shards and a dataset card, ready to be pushed to the Hugging Face Hub."""
    _export(dataset, out, "hub", select)
    print(f"to push it: hf upload NAME {shlex.quote(out)} --repo-type dataset", file=sys.stderr)


def _export(dataset: str, out: str, layout: Literal["webdataset", "hub"], select: str | None) -> None:
    """Export, and warn of clips that are not in the export yet."""
    with progress_bar("units") as progress:
        api.export(dataset, out, layout, select=select, progress=progress)
    print(out)
    if select is None and (counts := api.status(dataset)).pending:
        warn(
            f"{counts.pending} of {counts.clips} clips are pending, and not in {out}; "
            "finish the dataset by running its command again, then export again"
        )
