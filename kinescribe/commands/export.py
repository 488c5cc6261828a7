"""`kinescribe export …`: a dataset in the layouts that others read.

Part of the command line, as `kinescribe/evaluate.py` is.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kinescribe.commands.evaluate import Dataset
from kinescribe.display import counted, warn

if TYPE_CHECKING:
    from kinescribe.storage.audit import DatasetStatus

export = typer.Typer(
    help="Copy a dataset into a layout that others read: WebDataset, the Hugging Face Hub.",
    no_args_is_help=True,
)

Out = Annotated[str, typer.Option(help="An empty folder, or a URL of one.")]
Select = Annotated[str | None, typer.Option(help="A selection of `curate`: its triplets alone.")]


@export.command("webdataset")
def webdataset(dataset: Dataset, out: Out, select: Select = None) -> None:
    """Write tars of source.jpg, target.jpg and json with action, score, importance and codes."""
    from kinescribe.storage.audit import status
    from kinescribe.storage.dataset import Dataset as OpenDataset
    from kinescribe.storage.export import export_webdataset

    opened = OpenDataset.open(dataset)
    with counted("units") as progress:
        export_webdataset(opened, out, select, progress)
    print(out)
    if select is None:
        _warn_of_pending(status(opened), out)


@export.command("hub")
def hub(dataset: Dataset, out: Out, select: Select = None) -> None:
    """Write Parquet shards and a dataset card, ready to be pushed to the Hugging Face Hub."""
    from kinescribe.storage.export import export_hub

    with counted("units") as progress:
        counts = export_hub(dataset, out, select, progress)
    print(out)
    _warn_of_pending(counts, out)
    print(f"push it: hf upload NAME {shlex.quote(out)} --repo-type dataset", file=sys.stderr)


def _warn_of_pending(counts: DatasetStatus, out: str) -> None:
    if counts.pending:
        warn(
            f"{counts.pending} of {counts.clips} clips are pending, and not in {out}; "
            "run the command that writes the dataset to its end, then export it anew"
        )
