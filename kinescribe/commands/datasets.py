"""The commands that make and inspect datasets: label, ingest, status, check, report."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from kinescribe import api
from kinescribe.commands.next_steps import print_next_steps
from kinescribe.commands.options import (
    Columns,
    ConfigFile,
    Dataset,
    DryRun,
    IngestOverrides,
    Input,
    Json,
    Labeller,
    MicroBatch,
    Overrides,
    Roots,
    Scores,
    Seed,
    ingest_config,
    label_config,
    label_resources,
)
from kinescribe.display import (
    print_lines,
    print_result,
    print_tables,
    printable,
    progress_bar,
    stdout_for_results,
    warn,
)
from kinescribe.preconditions import require_folder
from kinescribe.schemas.errors import ConfigError, DatasetError
from kinescribe.schemas.rendering import tables_of

VideoRoots = Annotated[
    list[str] | None,
    typer.Option(
        "--root", help="A folder whose videos may be read, instead of the working folder; repeatable."
    ),
]
Join = Annotated[bool, typer.Option("--join", help="Write the dataset although another run is writing it.")]


def label(
    input: Input,
    out: Annotated[str, typer.Option(help="Folder or URL of the dataset; run again to resume.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    dynamics: Labeller = None,
    scores: Scores = None,
    decode_workers: Annotated[int | None, typer.Option(help="Maximum number of decoders.")] = None,
    label_workers: Annotated[int | None, typer.Option(help="Maximum number of models.")] = None,
    label_gpus: Annotated[
        float | None, typer.Option(help="GPUs of each model, or a share of one. By default its size decides.")
    ] = None,
    micro_batch: MicroBatch = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Requests at once that each label worker sends to MODEL@URL. [32]")
    ] = None,
    root: Roots = None,
    columns: Columns = None,
    retry_rejected: Annotated[
        bool, typer.Option("--retry-rejected", help="Label the rejected clips again.")
    ] = False,
    join: Join = False,
    dry: DryRun = False,
    show_prompt: Annotated[
        bool, typer.Option("--show-prompt", help="With --dry-run: print what the model gets for one clip.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Label videos: key frames, pairs, the action between them and its likelihood."""
    if dry and retry_rejected:
        raise ConfigError("give one of --dry-run and --retry-rejected")
    if show_prompt and not dry:
        raise ConfigError("--show-prompt needs --dry-run")
    settings = label_config(config, overrides, dynamics, scores, root, columns)
    resources = label_resources(decode_workers, label_workers, label_gpus, micro_batch, concurrency)
    if dry:
        require_folder("out", out)
        from kinescribe.cluster.label import plan_label

        with stdout_for_results():
            planned = plan_label(input, out, settings, show_prompt)
        print_result(planned, as_json)
        return
    with stdout_for_results():
        result = api.label(input, out, settings, resources, retry_rejected=retry_rejected, join=join)
    print_result(result, as_json)
    print_next_steps("label", result, out, quiet=as_json)


def ingest(
    input: Annotated[str, typer.Argument(help="AURORA's JSON, or a table of narrated video segments.")],
    out: Annotated[str, typer.Option(help="Folder or URL of the dataset; run again to resume.")],
    config: ConfigFile = None,
    overrides: IngestOverrides = None,
    dynamics: Annotated[
        str | None,
        typer.Option(help="The model whose codec computes the codes: 'embedded', a folder, ORG/NAME@COMMIT."),
    ] = None,
    decode_workers: Annotated[int | None, typer.Option(min=1, help="Maximum number of decoders.")] = None,
    root: Roots = None,
    join: Join = False,
    as_json: Json = False,
) -> None:
    """Import triplets that already have an action into a dataset like those of `label`."""
    settings = ingest_config(config, overrides, dynamics, root)
    with stdout_for_results(), progress_bar("triplets") as progress:
        result = api.ingest(input, out, settings, decode_workers=decode_workers, join=join, progress=progress)
    print_result(result, as_json)
    print_next_steps("ingest", result, out, quiet=as_json)


def status(
    dataset: Dataset,
    rejects: Annotated[
        bool,
        typer.Option(
            "--rejects", help="Print only a JSON line for each rejected clip: video, code, message."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Count the clips of a dataset that are kept, dropped, rejected and pending, beside what was planned."""
    from kinescribe.storage import audit
    from kinescribe.storage import dataset as datasets
    from kinescribe.storage.credentials import redact
    from kinescribe.storage.estimate import compare

    if rejects:
        print_lines(audit.rejects(dataset))
        return
    opened, compared = datasets.Dataset.open(dataset), None
    totals = audit.totals(opened)
    try:
        compared = compare(opened, totals.stage_s)
    except DatasetError as error:  # only the estimate is damaged
        warn(printable(redact(str(error))))
    if as_json or compared is None:
        print_result(totals.status, as_json, asdict(compared) if compared else None)
    else:
        print_tables([*tables_of(totals.status), *compared.tables(totals.status)])
    if (known := totals.status.familiarity) and known.warning:
        warn(known.warning)


def check(
    dataset: Dataset,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Also compare the frames of this many random rows with their videos."),
    ] = None,
    seed: Seed = 0,
    root: VideoRoots = None,
    as_json: Json = False,
) -> None:
    """Audit a dataset: the digest of every file, and exactly one outcome for every clip."""
    if root and frames is None:
        raise ConfigError(
            "--root names a folder of videos, which only --frames reads; give --frames N as well"
        )
    with progress_bar("rows") as progress:
        result = api.check(dataset, frames=frames, seed=seed, roots=root or None, progress=progress)
    print_result(result, as_json)
    if not result.ok:
        raise typer.Exit(1)


def report(
    datasets: Annotated[list[str], typer.Argument(metavar="DATASET", help="A dataset, or two to compare.")],
    out: Annotated[str, typer.Option(help="File or URL of the page to write; ends in .html.")],
    compare: Annotated[
        bool, typer.Option("--compare", help="Show two datasets side by side, and where they differ.")
    ] = False,
    sample: Annotated[int, typer.Option(min=1, help="Maximum number of pairs to show.")] = 500,
    dropped_frames: Annotated[
        bool, typer.Option("--dropped-frames", help="Decode frames of a few dropped and rejected clips.")
    ] = False,
    root: VideoRoots = None,
) -> None:
    """Write one self-contained HTML page: the run, pairs, actions, heat maps, scores, rejects."""
    if dropped_frames and compare:
        raise ConfigError("give one of --compare and --dropped-frames")
    if root and not dropped_frames:
        raise ConfigError(
            "--root names a folder of videos, which only --dropped-frames reads; give it as well"
        )
    if len(datasets) != 1 + compare:
        wanted = "two datasets after --compare" if compare else "one dataset, or --compare and two"
        raise ConfigError(f"give {wanted}; got {len(datasets)}")
    other = datasets[1] if compare else None
    api.report(
        datasets[0], out, compare=other, sample=sample, dropped_frames=dropped_frames, roots=root or None
    )
    print(out)
