"""What `label` and `ingest` say at their end: what to do with the dataset, or why it has no rows.

Part of the command line. Writes to stderr, because stdout is for results.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from kinescribe.display import warn
from kinescribe.schemas.outcomes import DropReason
from kinescribe.schemas.rendering import counted

if TYPE_CHECKING:
    from kinescribe.storage.audit import DatasetStatus

ELSEWHERE = "ingest them into another folder"
REMEDIES = {
    DropReason.STATIC: "to keep what moves less, label into another folder with a lower keyframes.min_motion",
    DropReason.SHOT_CUT: "to keep pairs that look like cuts, label into another folder with a higher "
    "keyframes.cut_threshold",
    DropReason.FEW_KEYFRAMES: "for shorter clips, label into another folder with a lower "
    "keyframes.min_interval",
}


def print_next_steps(command: str, status: DatasetStatus, dataset: str, quiet: bool) -> None:
    """Say what to do next, unless `quiet`. Exits with 1 if a finished dataset has no kept clip."""
    if status.kept == 0 and status.pending == 0:
        print("\n".join(_why_empty(command, status, dataset)), file=sys.stderr)
        raise typer.Exit(1)
    if status.familiarity and (warning := status.familiarity.warning):
        warn(warning)
    if not quiet and status.triplets:
        print("\n".join(_next_steps(status, dataset)), file=sys.stderr)


def _why_empty(command: str, status: DatasetStatus, dataset: str) -> Iterator[str]:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in status.reasons.items())
    yield f"no clip was kept: of {counted(status.clips, 'clip')}, {reasons}"
    if status.rejected:
        yield f"see what is wrong with each rejected clip: kinescribe status --rejects {shlex.quote(dataset)}"
        again = "run the same command again with --retry-rejected" if command == "label" else ELSEWHERE
        yield f"mend them, then {again}"
    if command == "label":
        yield from (remedy for reason, remedy in REMEDIES.items() if reason in status.reasons)


def _next_steps(status: DatasetStatus, dataset: str) -> Iterator[str]:
    folder = dataset.rstrip("/")
    name, page, half = shlex.quote(folder), shlex.quote(f"{folder}.html"), max(1, status.triplets // 2)
    yield f"the dataset is in {dataset}; next:"
    yield f"  kinescribe report {name} --out {page}"
    yield f"  kinescribe curate {name} --top-k {half} --out {shlex.quote(f'{folder}-selection.parquet')}"
