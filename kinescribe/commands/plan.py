"""`kinescribe plan`: estimates from a sample what labelling an input will take and cost.

Part of the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinescribe import api
from kinescribe.commands.options import (
    ConfigFile,
    Input,
    Json,
    Labeller,
    MicroBatch,
    Overrides,
    Plot,
    Roots,
    Scores,
    Seed,
    label_config,
    label_resources,
)
from kinescribe.display import print_result, stdout_for_results
from kinescribe.schemas.errors import ConfigError, InputError

if TYPE_CHECKING:
    from kinescribe.schemas.estimate import CostPlan, Machine


def plan(
    input: Input,
    sample: Annotated[int, typer.Option(min=2, help="How many clips to label.")] = 64,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET", help="Keep the estimate in this dataset, for its `status` to compare."
        ),
    ] = None,
    machines: Annotated[Path | None, typer.Option(help="YAML file with machines and their prices.")] = None,
    deadline: Annotated[
        float | None, typer.Option(metavar="HOURS", help="The time in which all clips must be labelled.")
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    dynamics: Labeller = None,
    scores: Scores = None,
    micro_batch: MicroBatch = None,
    root: Roots = None,
    seed: Seed = 0,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Label a random sample, and estimate triplets, hours, machines and cost for all clips."""
    settings = label_config(config, overrides, dynamics, scores, root)
    speed = label_resources(micro_batch=micro_batch)
    kinds = _read_machines(machines)
    if plot:
        from kinescribe.evaluation.plots import require_plot_file

        require_plot_file(plot)
    with stdout_for_results():
        result = api.plan(
            input,
            settings,
            speed,
            sample=sample,
            dataset=dataset,
            machines=kinds,
            deadline_h=deadline,
            seed=seed,
        )
    print_result(result, as_json)
    if plot:
        from kinescribe.evaluation.plots import write_plot

        write_plot(result, plot)
    _require_offer(result, deadline)


def _read_machines(path: Path | None) -> tuple[Machine, ...]:
    """The machines of the file. Raises ConfigError if it is wrong."""
    from kinescribe.schemas.config import load_config
    from kinescribe.schemas.estimate import Machines

    if path is None:
        return ()
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--machines {path} cannot be read: {error}; give a YAML file in UTF-8") from error
    try:
        return load_config(Machines, text).machines
    except ConfigError as error:
        raise ConfigError(f"--machines {path}: {error}; see configs/machines.yaml") from error


def _require_offer(result: CostPlan, deadline_h: float | None) -> None:
    """Raises InputError if no machine of the file can label the input in time."""
    if result.left_out and not result.offers:
        deadline = "" if deadline_h is None else f" within {deadline_h:g} hours"
        reasons = "\n".join(f"  {name}: {why}" for name, why in result.left_out.items())
        raise InputError(
            f"no machine labels {result.estimate.clips:,} clips{deadline}:\n{reasons}\n"
            "give a later --deadline, or other --machines"
        )
