"""`kinescribe export …`: copies a dataset into layouts that other tools read."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kinescribe.commands.options import Dataset
from kinescribe.display import progress_bar, warn
from kinescribe.preconditions import require_folder

if TYPE_CHECKING:
    from kinescribe.storage.audit import DatasetStatus

export = typer.Typer(
    help="Copy a dataset into a layout that other tools read: WebDataset, the Hugging Face Hub.",
    no_args_is_help=True,
)

Out = Annotated[str, typer.Option(help="Empty folder, or its URL.")]
Select = Annotated[str | None, typer.Option(help="Export only the triplets of this selection of `curate`.")]


@export.command("webdataset")
def webdataset(dataset: Dataset, out: Out, select: Select = None) -> None:
    """Write tars of source.jpg, target.jpg and json with action, score, importance and codes."""
    require_folder("--out", out)
    from kinescribe.storage.audit import status
    from kinescribe.storage.dataset import Dataset as OpenDataset
    from kinescribe.storage.export import export_webdataset

    opened = OpenDataset.open(dataset)
    with progress_bar("units") as progress:
        export_webdataset(opened, out, select, progress)
    print(out)
    if select is None:
        _warn_of_pending(status(opened), out)


@export.command("hub")
def hub(dataset: Dataset, out: Out, select: Select = None) -> None:
    """Write Parquet shards and a dataset card, ready to be pushed to the Hugging Face Hub."""
    require_folder("--out", out)
    from kinescribe.storage.export import export_hub

    with progress_bar("units") as progress:
        counts = export_hub(dataset, out, select, progress)
    print(out)
    _warn_of_pending(counts, out)
    print(f"to push it: hf upload NAME {shlex.quote(out)} --repo-type dataset", file=sys.stderr)


def _warn_of_pending(counts: DatasetStatus, out: str) -> None:
    if counts.pending:
        warn(
            f"{counts.pending} of {counts.clips} clips are pending, and not in {out}; "
            "finish the dataset by running its command again, then export again"
        )
