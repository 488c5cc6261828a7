"""`kinescribe submit …` and `kinescribe jobs …`: runs a command line as a job on a running cluster.

Part of the command line. Checks the command before anything is sent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinescribe.commands.options import (
    aurora_config,
    curate_config,
    label_config,
    label_resources,
    train_config,
    with_options,
)
from kinescribe.display import print_list, print_tables, printable, warn
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.rendering import Table

if TYPE_CHECKING:
    from kinescribe.cluster.jobs import Jobs

jobs = typer.Typer(help="Look at the jobs of a cluster, and stop them.", no_args_is_help=True)

COMMANDS = ("label", "train", "curate", "evaluate")
_PATHS = """
agree bertscore clip codec data dataset datasets dino dynamics examples held_out ids init input materialize
model out plot review root roots select truth world
"""
PATHS = frozenset(_PATHS.split())
"""Parameters and configuration keys that are paths."""

CHECKS: Mapping[str, Sequence[Callable[..., object]]] = {
    "label": (label_config, label_resources),
    "train": (train_config,),
    "curate": (curate_config,),
    "evaluate-aurora": (aurora_config,),
}
"""Functions that make a command's configuration of its options, and raise if one is wrong."""

Address = Annotated[
    str,
    typer.Option(
        envvar=["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"], help="URL of the dashboard of the cluster's head."
    ),
]
SubmissionId = Annotated[str, typer.Argument(metavar="ID", help="A job's id, as `jobs list` shows it.")]
LOCAL = "http://127.0.0.1:8265"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line that can run on a cluster."""

    name: str
    arguments: Sequence[str]
    """As the job gets them, with the path of the configuration in the package."""
    parameters: Mapping[str, Any]
    config: str | None


def submit(
    context: typer.Context,
    arguments: Annotated[list[str], typer.Argument(metavar="[--] COMMAND ...", help=", ".join(COMMANDS))],
    address: Address = LOCAL,
    wait: Annotated[
        bool, typer.Option("--wait", help="Print the job's log and exit with its exit code.")
    ] = False,
    gpus: Annotated[
        int,
        typer.Option(
            min=0,
            help="GPUs for the command's own process. `evaluate` needs them; the others ask for theirs.",
        ),
    ] = 0,
) -> None:
    """Run a command as a job on a Ray cluster, or attach to the job that runs it already."""
    line = read_command(context.find_root().command, arguments)
    from kinescribe.cluster.jobs import Jobs
    from kinescribe.cluster.submission import run_name

    server = Jobs(address)
    run = run_name(line.name, line.parameters)
    attempt = server.submit(run, line.arguments, line.config, gpus)
    print("submitted" if attempt.is_new else "already running: attached", file=sys.stderr)
    print(attempt.submission_id, file=sys.stderr if wait else sys.stdout)
    if wait:
        _follow(server, attempt.submission_id)


@jobs.command("list")
def list_jobs(
    address: Address = LOCAL,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list on stdout.")] = False,
) -> None:
    """List the submitted jobs, oldest first."""
    from kinescribe.cluster.jobs import Jobs
    from kinescribe.cluster.submission import SubmittedJob

    submitted = Jobs(address).list()
    if as_json:
        print_list(submitted)
    else:
        print_tables([Table([job.row for job in submitted], columns=SubmittedJob.COLUMNS)])


@jobs.command()
def logs(
    submission_id: SubmissionId,
    address: Address = LOCAL,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job is over, and exit with its exit code.")
    ] = False,
) -> None:
    """Print what a job has printed."""
    from kinescribe.cluster.jobs import Jobs

    server = Jobs(address)
    if follow:
        _follow(server, submission_id)
    print(server.logs(submission_id), end="")


@jobs.command()
def stop(submission_id: SubmissionId, address: Address = LOCAL) -> None:
    """Stop a job and wait until it is over. To resume, submit the same command again."""
    from kinescribe.cluster.jobs import Jobs

    print(Jobs(address).stop(submission_id).status)


def read_command(root: Any, arguments: Sequence[str]) -> CommandLine:
    """Parse and check a command line.

    `root` is the command `kinescribe`. Raises ConfigError, or typer's errors if an option is wrong.
    """
    from kinescribe.schemas.yaml_values import config_values, read_config
    from kinescribe.storage.credentials import NO_CREDENTIALS, holds_credentials, redact

    command, words, rest = _find(root, arguments)
    given = command.make_context(" ".join(("kinescribe", *words)), rest).params
    config = read_config(given.get("config"))
    values = config_values(config, given.get("overrides") or ())
    # The configuration's values identify the run, not its path; neither does the format of the result.
    ignored = ("config", "overrides", "as_json")
    parameters = {key: value for key, value in given.items() if key not in ignored}
    leaves = [
        (key, str(value)) for key, value in (*_leaves(parameters), *_leaves(values)) if value is not None
    ]
    for key, text in leaves:
        if holds_credentials(text):
            raise ConfigError(f"{key}={redact(text)} {NO_CREDENTIALS}")
    if relative := dict(relative_paths(leaves)):
        raise ConfigError(
            ", ".join(f"{key}={value}" for key, value in relative.items())
            + ": the job runs in another folder; give absolute paths that every machine of the cluster has, "
            "or URLs if the command takes them"
        )
    name = "-".join(words)
    for check in CHECKS.get(name, ()):
        with_options(check, given)
    normalized = {key: _normalized(value) if key in PATHS else value for key, value in parameters.items()}
    return CommandLine(name, _with_packed_config(arguments), normalized | {"config": values}, config)


def _normalized(value: Any) -> Any:
    """One spelling of a path or of several: without `file://` and superfluous slashes."""
    from kinescribe.schemas.paths import without_file_scheme
    from kinescribe.storage.uri import is_local

    if isinstance(value, list | tuple):
        return [_normalized(item) for item in value]
    if not isinstance(value, str):
        return value
    return str(PurePosixPath(without_file_scheme(value))) if is_local(value) else value.rstrip("/")


def _find(root: Any, arguments: Sequence[str]) -> tuple[Any, list[str], list[str]]:
    """The command at the start of the arguments, the words of its name, and its own arguments."""
    command, words, rest = root, list[str](), list(arguments)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest[0]]
        words.append(rest.pop(0))
    if words and words[0] in COMMANDS and "human" not in words and hasattr(command, "commands"):
        known = ", ".join(name for name in command.commands if name != "human")
        raise ConfigError(f"`{words[0]}` has several commands; give one of {known} after it")
    if not words or words[0] not in COMMANDS or "human" in words:
        raise ConfigError(
            f"{' '.join(arguments[:2])} cannot be submitted; give one of {', '.join(COMMANDS)} with its "
            "arguments. `evaluate human` can't be submitted, because it works on the page's folder"
        )
    return command, words, rest


def relative_paths(values: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The names and values of parameters and keys that are relative paths."""
    from kinescribe.models.checkpoint_files import EMBEDDED
    from kinescribe.models.hub import hub_model
    from kinescribe.storage.uri import is_local

    for key, text in values:
        is_model = text in EMBEDDED or hub_model(text)
        is_relative = is_local(text) and not Path(text.removeprefix("file://")).is_absolute()
        if key in PATHS and not is_model and is_relative:
            yield key, text


def _leaves(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings and lists, with the innermost key above it."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _leaves(value, str(name))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _leaves(value, key)
    else:
        yield key, values


def _with_packed_config(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the path of the configuration in the package."""
    from kinescribe.cluster.code_package import CONFIG

    packed = [f"--config={CONFIG}" if word.startswith("--config=") else word for word in arguments]
    return [CONFIG if i and packed[i - 1] == "--config" else word for i, word in enumerate(packed)]


def _follow(server: Jobs, submission_id: str) -> None:
    """Print the log until the job is over, and exit with its exit code."""
    from kinescribe.cluster.submission import exit_code

    try:
        job = server.follow(
            submission_id, lambda text: print(text, end="", flush=True), lambda text: warn(printable(text))
        )
    except KeyboardInterrupt:
        print(f"the job goes on; `kinescribe jobs stop {submission_id}` ends it", file=sys.stderr)
        raise
    if job.exit_code is None:
        print(f"{job.status}: {printable(job.message or '')}", file=sys.stderr)
    raise typer.Exit(exit_code(job))
