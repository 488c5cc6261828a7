"""The command line: reads options, calls one function, prints its result.

Each command imports what it needs when it runs, so that `kinescribe --help` answers at once. Results go to
stdout; progress, logs and errors go to stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from kinescribe import __version__
from kinescribe.commands.evaluate import evaluate
from kinescribe.commands.export import export
from kinescribe.commands.next_steps import print_next_steps
from kinescribe.commands.options import (
    ConfigFile,
    Dataset,
    IngestOverrides,
    Input,
    Json,
    Labeller,
    MicroBatch,
    Overrides,
    Roots,
    Scores,
    Seed,
    TrainOverrides,
    curate_config,
    imagine_config,
    ingest_config,
    label_config,
    label_resources,
    train_config,
    with_old_names,
)
from kinescribe.commands.plan import plan
from kinescribe.commands.simulate import simulate
from kinescribe.commands.submit import jobs, submit
from kinescribe.display import (
    print_lines,
    print_list,
    print_result,
    print_tables,
    printable,
    progress_bar,
    stdout_for_results,
    warn,
)
from kinescribe.preconditions import OWN_PAGE, require_extras, require_file, require_folder
from kinescribe.schemas.errors import ConfigError, DatasetError, UserError
from kinescribe.schemas.rendering import Table, tables_of

app = typer.Typer(
    name="kinescribe",
    help="Labels video for world models: clips in, (frame, action, next frame) triplets out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(simulate, name="simulate")
app.add_typer(evaluate, name="evaluate")
app.add_typer(export, name="export")
app.add_typer(jobs, name="jobs")
app.command(context_settings={"allow_interspersed_args": False})(submit)
app.command(cls=with_old_names({"--for": "--dataset"}))(plan)

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and print what would be done, without doing it.")
]


Join = Annotated[bool, typer.Option("--join", help="Write the dataset although another run is writing it.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Errors that the user can fix are printed without a traceback."""
    try:
        app(arguments)
    except UserError as error:
        from kinescribe.storage.credentials import redact

        print("error: " + "\n".join(map(printable, redact(str(error)).split("\n"))), file=sys.stderr)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        print(__version__)
        raise typer.Exit
    assert context.invoked_subcommand


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for clips, dataset and report.")] = Path("out/demo"),
) -> None:
    """Label 40 simulated clips, fine-tune a world model on the best, imagine and judge. Offline, on a CPU."""
    require_extras("demo", "train", "evaluate")
    require_folder("--out", str(out))
    from kinescribe.demo import run_demo

    result = run_demo(out)
    print_result(result, as_json=False)
    print(f"\nlook at {result.report}")
    if not result.check.ok:
        raise typer.Exit(1)


@app.command()
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
    root: Roots = None,
    retry_rejected: Annotated[
        bool, typer.Option("--retry-rejected", help="Label the rejected clips again.")
    ] = False,
    join: Join = False,
    dry: DryRun = False,
    as_json: Json = False,
) -> None:
    """Label videos: key frames, pairs, the action between them and its likelihood."""
    if dry and retry_rejected:
        raise ConfigError("give one of --dry-run and --retry-rejected")
    settings = label_config(config, overrides, dynamics, scores, root)
    resources = label_resources(decode_workers, label_workers, label_gpus, micro_batch)
    require_folder("--out", out)
    from kinescribe.cluster.label import plan_label, run_label
    from kinescribe.storage.audit import DatasetStatus

    with stdout_for_results():
        result = (
            plan_label(input, out, settings)
            if dry
            else run_label(input, out, settings, resources, retry_rejected=retry_rejected, join=join)
        )
    print_result(result, as_json)
    if isinstance(result, DatasetStatus):
        print_next_steps("label", result, out, quiet=as_json)


@app.command()
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
    require_folder("--out", out)
    from kinescribe.labeling.ingest import run_ingest

    with stdout_for_results(), progress_bar("triplets") as progress:
        result = run_ingest(input, out, settings, decode_workers, progress, join)
    print_result(result, as_json)
    print_next_steps("ingest", result, out, quiet=as_json)


@app.command()
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


@app.command()
def check(dataset: Dataset, as_json: Json = False) -> None:
    """Audit a dataset: the digest of every file, and exactly one outcome for every clip."""
    from kinescribe.storage import audit

    result = audit.check(dataset)
    print_result(result, as_json)
    if not result.ok:
        raise typer.Exit(1)


@app.command(cls=with_old_names({"--by": "--stratify-by"}))
def curate(
    datasets: Annotated[list[str], typer.Argument(metavar="DATASET", help="Labelled datasets.")],
    top_k: Annotated[int, typer.Option(help="How many triplets to choose.")],
    out: Annotated[str, typer.Option(help="Parquet file to write the selection to.")],
    stratify_by: Annotated[
        Literal["action_class", "video", "clip_id", "action"],
        typer.Option(help="Column of the classes that triplets are chosen from in turn."),
    ] = "action_class",
    score: Annotated[
        Literal["mean", "sum", "contrast"],
        typer.Option(help="Log-probability of the action per token or as a sum, or its contrast."),
    ] = "mean",
    min_score: Annotated[float | None, typer.Option(help="Drop triplets with a lower score.")] = None,
    min_motion: Annotated[float | None, typer.Option(help="Drop triplets with less motion.")] = None,
    max_motion: Annotated[float | None, typer.Option(help="Drop triplets with more motion.")] = None,
    duplicates: Annotated[
        Literal["keep", "drop"],
        typer.Option(help="Keep all triplets with the same action and clip, or the best."),
    ] = "keep",
    materialize: Annotated[
        str | None, typer.Option(help="Also copy the chosen triplets into this dataset; run again to resume.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Select the likeliest triplets, the same number of each class."""
    settings = curate_config(top_k, stratify_by, score, min_score, min_motion, max_motion, duplicates)
    require_file("--out", out)
    if materialize is not None:
        require_folder("--materialize", materialize)
    from kinescribe.labeling.curate import curate as choose
    from kinescribe.storage import dataset

    opened = [dataset.Dataset.open(name) for name in datasets]
    with progress_bar("units") as progress:
        result = choose(opened, out, settings, progress)
    if materialize is not None:
        from kinescribe.labeling.materialize import write_chosen

        with progress_bar("units written") as progress:
            write_chosen(opened, out, materialize, progress)
    print_result(result, as_json)
    if result.missing:
        print(f"only {result.chosen:,} triplets were left to choose from; took all", file=sys.stderr)


@app.command()
def train(
    task: Annotated[Literal["codec", "dynamics", "world"], typer.Argument(help="What to train.")],
    data: Annotated[list[str] | None, typer.Option(help="Folder or URL of a dataset; repeatable.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the run; run again to resume.")] = None,
    config: ConfigFile = None,
    overrides: TrainOverrides = None,
    select: Annotated[str | None, typer.Option(help="A selection of `curate`, for a world model.")] = None,
    mix: Annotated[
        str | None,
        typer.Option(
            metavar="supervised=S,labelled=L", help="Shares of samples with given and with labelled actions."
        ),
    ] = None,
    weights: Annotated[
        Literal["l2", "none"] | None,
        typer.Option(help="Weights of a world model's target tokens: importance or none."),
    ] = None,
    dry: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train a codec, a dynamics model or a world model on datasets, with Ray Train and DeepSpeed."""
    settings = train_config(task, data, out, config, overrides, select, mix, weights)
    require_extras("train", "train")
    require_folder("--out", settings.out)
    with stdout_for_results():
        from kinescribe.cluster.train import plan_train, run_train

        result = plan_train(settings) if dry else run_train(settings)
    if isinstance(result, Path):
        print(json.dumps({"export": str(result)}) if as_json else result)
    else:
        print_result(result, as_json)


@app.command()
def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Models to describe. By default, all that are known."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the known models and what each can do."""
    from kinescribe.models.catalog import KnownModel, known_models

    known = known_models(names or [])
    if as_json:
        print_list(known)
    else:
        print_tables([Table([model.row for model in known], columns=KnownModel.COLUMNS)])


@app.command()
def codec(
    source: Annotated[
        Path, typer.Argument(help="vqgan.ckpt with vqgan.yaml beside it, or a folder of Anole or Emu3.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: codec/ in the folder of the model.")],
) -> None:
    """Convert the image codec of a published checkpoint into the `codec` folder of a model."""
    require_folder("--out", str(out))
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"--out {out}: this folder holds files that would be lost; name an empty folder")
    with stdout_for_results():
        from kinescribe.models.codec_conversion import published_codec

        published_codec(source).save(out)
    print(out)


@app.command(cls=with_old_names({"--steps": "--actions"}))
def imagine(
    source: Annotated[str, typer.Option(help="Path or URL of the image to start from.")],
    world: Annotated[
        str, typer.Option(help="World model: 'embedded-world', a folder or ORG/NAME@COMMIT.")
    ] = "embedded-world",
    action: Annotated[str | None, typer.Option(help="The action, in words.")] = None,
    actions: Annotated[
        str | None,
        typer.Option(
            metavar="'A; B; C'", help="Several actions; each starts from the last one's best image."
        ),
    ] = None,
    num: Annotated[int, typer.Option("-n", "--num", help="Number of samples to choose from.")] = 8,
    dynamics: Annotated[
        str, typer.Option(help="Dynamics model that chooses: 'embedded', a folder or ORG/NAME@COMMIT.")
    ] = "embedded",
    out: Annotated[
        Path, typer.Option(help="Folder for the images. Images of an earlier `imagine` there are replaced.")
    ] = Path("out/imagined"),
    seed: Seed = 0,
    temperature: Annotated[
        float, typer.Option(help="Sampling temperature. Below 1, a model copies the source more.")
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Imagine the result of an action: draw N images, and let the dynamics model choose the best."""
    settings = imagine_config(world, dynamics, action, actions, num, seed, temperature)
    require_folder("--out", str(out))
    from kinescribe.inference.imagine import imagine as draw

    with stdout_for_results():
        result = draw(source, settings, out, warn)
    if as_json:
        print(json.dumps({"out": str(out), **result.record}))
    else:
        print_tables(result.tables(out))
        print(f"look at {out / result.record['sheet']}")


@app.command()
def report(
    datasets: Annotated[list[str], typer.Argument(metavar="DATASET", help="A dataset, or two to compare.")],
    out: Annotated[str, typer.Option(help="File or URL of the page to write; ends in .html.")],
    compare: Annotated[
        bool, typer.Option("--compare", help="Show two datasets side by side, and where they differ.")
    ] = False,
    sample: Annotated[int, typer.Option(min=1, help="Maximum number of pairs to show.")] = 500,
) -> None:
    """Write one self-contained HTML page: the run, pairs, actions, heat maps, scores, rejects."""
    if len(datasets) != 1 + compare:
        wanted = "two datasets after --compare" if compare else "one dataset, or --compare and two"
        raise ConfigError(f"give {wanted}; got {len(datasets)}")
    require_file("--out", out, OWN_PAGE)
    if compare:
        from kinescribe.reports.comparison import write_comparison

        first, second = datasets
        write_comparison(first, second, out, sample)
    else:
        from kinescribe.reports.report import write_report

        write_report(datasets[0], out, sample)
    print(out)
