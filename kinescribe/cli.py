"""The command line: `kinescribe COMMAND …`.

The commands are in `kinescribe/commands/`. Each imports what it needs when it runs, so that
`kinescribe --help` answers at once. Results go to stdout; progress, logs and errors go to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kinescribe import __version__
from kinescribe.commands.curate import curate
from kinescribe.commands.datasets import check, ingest, label, report, status
from kinescribe.commands.evaluate import evaluate
from kinescribe.commands.export import export
from kinescribe.commands.models import codec, imagine, models, train
from kinescribe.commands.options import with_old_names
from kinescribe.commands.plan import plan
from kinescribe.commands.review import review
from kinescribe.commands.simulate import simulate
from kinescribe.commands.submit import jobs, submit
from kinescribe.display import print_result, printable, shorten
from kinescribe.preconditions import require_extras, require_folder
from kinescribe.schemas.errors import UserError
from kinescribe.schemas.paths import with_home

app = typer.Typer(
    name="kinescribe",
    help="Labels video for world models: clips in, (frame, action, next frame) triplets out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Errors that the user can fix are printed without a traceback."""
    try:
        app([_with_home(argument) for argument in (sys.argv[1:] if arguments is None else arguments)])
    except UserError as error:
        from kinescribe.storage.credentials import redact

        lines = (shorten(printable(line)) for line in redact(str(error)).split("\n"))
        print("error: " + "\n".join(lines), file=sys.stderr)
        sys.exit(2)


def _with_home(argument: str) -> str:
    """An argument with the home folder for `~` at the start of its value, as in `--out=~/dataset`."""
    name, equals, value = argument.partition("=")
    return name + equals + with_home(value) if equals else with_home(name)


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
    from kinescribe.reports.page import require_page

    require_page(str(out / "report.html"))
    result = run_demo(out)
    print_result(result, as_json=False)
    print(f"\nlook at {result.report}")
    if not result.check.ok:
        raise typer.Exit(1)


app.command()(label)
app.command()(ingest)
app.command()(status)
app.command()(check)
app.command(cls=with_old_names({"--by": "--stratify-by"}))(curate)
app.command()(report)
app.command()(train)
app.command(cls=with_old_names({"--steps": "--actions"}))(imagine)
app.command()(models)
app.command()(codec)
app.command(cls=with_old_names({"--for": "--dataset"}))(plan)
app.command(context_settings={"allow_interspersed_args": False})(submit)
app.add_typer(jobs, name="jobs")
app.add_typer(evaluate, name="evaluate")
app.add_typer(export, name="export")
app.add_typer(review, name="review")
app.add_typer(simulate, name="simulate")
