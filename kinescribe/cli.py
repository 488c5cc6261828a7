"""The command line: reads options, calls one function of the house, prints what it returned.

Knows no job's inside. What is heavy is imported by the command that needs it, so that
`kinescribe --help` answers at once. Results go to stdout; progress, logs and errors to stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from kinescribe import __version__
from kinescribe.commands.evaluate import Dataset, Json, Seed, evaluate
from kinescribe.commands.export import export
from kinescribe.commands.options import (
    ConfigFile,
    Input,
    Labeller,
    MicroBatch,
    Overrides,
    Roots,
    Scores,
    curate_config,
    given,
    label_config,
    label_resources,
    train_config,
)
from kinescribe.commands.plan import plan
from kinescribe.commands.simulate import simulate
from kinescribe.commands.submit import jobs, submit
from kinescribe.display import (
    counted,
    print_demo,
    print_imagined,
    print_lines,
    print_models,
    print_result,
    print_scores,
    print_status,
    printable,
    stdout_for_results,
    warn,
)
from kinescribe.schemas.errors import ConfigError, DatasetError, UserError

app = typer.Typer(
    name="kinescribe",
    help="Writes down the motion in videos: frame pairs, the action between them, a dataset.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(simulate, name="simulate")
app.add_typer(evaluate, name="evaluate")
app.add_typer(export, name="export")
app.add_typer(jobs, name="jobs")
app.command(context_settings={"allow_interspersed_args": False})(submit)
app.command()(plan)

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, say what would be done, and do nothing.")
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error that the user can mend is shown without a traceback."""
    try:
        app(arguments)
    except UserError as error:
        from kinescribe.storage.credentials import redact

        print("error: " + "\n".join(map(printable, redact(str(error)).split("\n"))), file=sys.stderr)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if show:
        print(__version__)
        raise typer.Exit
    assert context.invoked_subcommand


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for clips, dataset and page.")] = Path("out/demo"),
) -> None:
    """Label 40 simulated clips, fine-tune a world model on the best, imagine and judge: offline, on a CPU."""
    from kinescribe.demo import run_demo

    result = run_demo(out)
    print_result(result.status, as_json=False)
    print_result(result.check, as_json=False)
    print_scores(result.scores, as_json=False, shown=result.shown)
    print_demo(result)
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
    decode_workers: Annotated[int | None, typer.Option(help="Most decoders at once.")] = None,
    label_workers: Annotated[int | None, typer.Option(help="Most models at once.")] = None,
    label_gpus: Annotated[
        float | None, typer.Option(help="GPUs of each model, or a share of one; else its size decides.")
    ] = None,
    micro_batch: MicroBatch = None,
    root: Roots = None,
    retry_rejected: Annotated[
        bool, typer.Option("--retry-rejected", help="Try the clips again that were rejected so far.")
    ] = False,
    dry: DryRun = False,
    as_json: Json = False,
) -> None:
    """Label videos: key frames, pairs, the action between them and its likelihood."""
    if dry and retry_rejected:
        raise ConfigError("give one of --dry-run and --retry-rejected")
    settings = label_config(config, overrides, dynamics, scores, root)
    resources = label_resources(decode_workers, label_workers, label_gpus, micro_batch)
    from kinescribe.cluster.label import plan_label, run_label

    with stdout_for_results():
        result = (
            plan_label(input, out, settings)
            if dry
            else run_label(input, out, settings, resources, retry_rejected=retry_rejected)
        )
    print_result(result, as_json)


@app.command()
def ingest(
    input: Annotated[str, typer.Argument(help="AURORA's JSON, or a table of narrated segments of videos.")],
    out: Annotated[str, typer.Option(help="Folder or URL of the dataset; run again to resume.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    dynamics: Annotated[
        str | None,
        typer.Option(help="The model whose codec makes the codes: 'embedded', a folder, ORG/NAME@COMMIT."),
    ] = None,
    decode_workers: Annotated[int | None, typer.Option(min=1, help="Most decoders at once.")] = None,
    root: Roots = None,
    as_json: Json = False,
) -> None:
    """Take in triplets whose action is given: a dataset like those of `label`, to train on."""
    from kinescribe.schemas.config import IngestConfig, load_config, read_config

    named = given(dynamics=dynamics, roots=root)
    settings = load_config(IngestConfig, read_config(config), [*(overrides or []), *named])
    from kinescribe.labeling.ingest import run_ingest

    with stdout_for_results(), counted("triplets") as progress:
        result = run_ingest(input, out, settings, decode_workers, progress)
    print_result(result, as_json)


@app.command()
def status(
    dataset: Dataset,
    rejects: Annotated[
        bool, typer.Option("--rejects", help="Instead, a JSON line for each rejected clip: video, code, why.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say how far a dataset is: clips kept, dropped, rejected and pending; what was planned beside it."""
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
    except DatasetError as error:  # the run is whole, only its estimate is not
        warn(printable(redact(str(error))))
    print_status(totals.status, compared, as_json)


@app.command()
def check(dataset: Dataset, as_json: Json = False) -> None:
    """Audit a dataset: every object's digest, and every clip in exactly one outcome."""
    from kinescribe.storage import audit

    result = audit.check(dataset)
    print_result(result, as_json)
    if not result.ok:
        raise typer.Exit(1)


@app.command()
def curate(
    datasets: Annotated[list[str], typer.Argument(metavar="DATASET", help="Labelled datasets.")],
    top_k: Annotated[int, typer.Option(help="How many triplets to choose.")],
    out: Annotated[str, typer.Option(help="The selection, a Parquet file to write.")],
    by: Annotated[
        Literal["action_class", "video", "clip_id", "action"], typer.Option(help="What takes turns.")
    ] = "action_class",
    score: Annotated[
        Literal["mean", "sum", "contrast"],
        typer.Option(help="Log-probability per token or of the whole action, or its contrast."),
    ] = "mean",
    min_score: Annotated[float | None, typer.Option(help="Drop what scores less.")] = None,
    min_motion: Annotated[float | None, typer.Option(help="Drop what moves less.")] = None,
    max_motion: Annotated[float | None, typer.Option(help="Drop what moves more.")] = None,
    duplicates: Annotated[
        Literal["keep", "drop"], typer.Option(help="Of the same action within a clip, all or the best.")
    ] = "keep",
    materialize: Annotated[
        str | None, typer.Option(help="Write the chosen triplets as a dataset too; run again to resume.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Choose the likeliest triplets, the same number of each class, and write down which."""
    settings = curate_config(top_k, by, score, min_score, min_motion, max_motion, duplicates)
    from kinescribe.labeling.curate import curate as choose
    from kinescribe.storage import dataset

    opened = [dataset.Dataset.open(name) for name in datasets]
    with counted("units") as progress:
        result = choose(opened, out, settings, progress)
    if materialize is not None:
        from kinescribe.labeling.materialize import write_chosen

        with counted("units written") as progress:
            write_chosen(opened, out, materialize, progress)
    print_result(result, as_json)
    if result.missing:
        print(f"there are only {result.chosen:,} to choose from: all were taken", file=sys.stderr)


@app.command()
def train(
    task: Annotated[Literal["codec", "dynamics", "world"], typer.Argument(help="What to train.")],
    data: Annotated[list[str] | None, typer.Option(help="Folder or URL of a dataset; repeatable.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the run; run again to resume.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    select: Annotated[
        str | None,
        typer.Option(help="A selection of `curate`, for a world model."),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(metavar="supervised=S,labelled=L", help="Shares of a world model's samples."),
    ] = None,
    weights: Annotated[
        Literal["l2", "none"] | None, typer.Option(help="Of a world model's target tokens.")
    ] = None,
    dry: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train a codec, a dynamics model or a world model on datasets, with Ray Train and DeepSpeed."""
    settings = train_config(task, data, out, config, overrides, select, mix, weights)
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
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Names to look at; without any, all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the models that are known, and what each can do."""
    from kinescribe.models.catalog import known_models

    print_models(known_models(names or []), as_json)


@app.command()
def codec(
    source: Annotated[
        Path, typer.Argument(help="vqgan.ckpt with vqgan.yaml beside it, or a folder of Anole or Emu3.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write: codec/ in the folder of the model.")],
) -> None:
    """Write the image codec of a published checkpoint where a model's folder has its codec."""
    with stdout_for_results():
        from kinescribe.models.codec_conversion import published_codec

        published_codec(source).save(out)
    print(out)


@app.command()
def imagine(
    source: Annotated[str, typer.Option(help="Path or URL of the image to start from.")],
    world: Annotated[
        str, typer.Option(help="World model: 'embedded-world', a folder or ORG/NAME@COMMIT.")
    ] = "embedded-world",
    action: Annotated[str | None, typer.Option(help="What is done, in words.")] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="'A; B; C'", help="Several actions: the best image of one is where the next starts."
        ),
    ] = None,
    num: Annotated[int, typer.Option("-n", "--num", help="How many samples to choose from.")] = 8,
    dynamics: Annotated[
        str, typer.Option(help="Dynamics model that chooses: 'embedded', a folder or ORG/NAME@COMMIT.")
    ] = "embedded",
    out: Annotated[
        Path, typer.Option(help="Folder for the images; an earlier imagination there is replaced.")
    ] = Path("out/imagined"),
    seed: Seed = 0,
    temperature: Annotated[float, typer.Option(help="Below 1, a model copies the source more.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Imagine what comes of an action: N images, of which the dynamics model chooses the best."""
    from kinescribe.schemas.config import ImagineConfig, load_config

    if (action is None) == (steps is None):
        raise ConfigError("give one of --action, for one action, and --steps, for several")
    actions = [action] if steps is None else steps.split(";")
    named = given(world=world, dynamics=dynamics, actions=actions, num_samples=num, seed=seed)
    settings = load_config(ImagineConfig, None, named + given(temperature=temperature))
    from kinescribe.inference.imagine import imagine as draw

    with stdout_for_results():
        result = draw(source, settings, out, warn)
    print_imagined(result.record, out, as_json)


@app.command()
def report(
    datasets: Annotated[list[str], typer.Argument(metavar="DATASET", help="A dataset, or two to compare.")],
    out: Annotated[str, typer.Option(help="File or URL of the page to write; ends in .html.")],
    compare: Annotated[
        bool, typer.Option("--compare", help="Show two datasets beside each other, and where they differ.")
    ] = False,
    sample: Annotated[int, typer.Option(min=1, help="How many pairs to show at most.")] = 500,
) -> None:
    """Write one self-contained HTML page: how the run went, pairs, actions, heat maps, scores, rejects."""
    if len(datasets) != 1 + compare:
        wanted = "two datasets after --compare" if compare else "one dataset, or --compare and two"
        raise ConfigError(f"give {wanted}; got {len(datasets)}")
    if compare:
        from kinescribe.reports.comparison import write_comparison

        write_comparison(datasets[0], datasets[1], out, sample)
    else:
        from kinescribe.reports.report import write_report

        write_report(datasets[0], out, sample)
    print(out)
