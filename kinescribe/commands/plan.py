"""`kinescribe plan`: estimates from a sample what labelling an input will take and cost.

Part of the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    kinds = _read_machines(machines, deadline)
    if plot:
        from kinescribe.evaluation.plots import require_plot_file

        require_plot_file(plot)
    from kinescribe.cluster.estimate import estimate_run
    from kinescribe.cluster.planning import plan_run

    with stdout_for_results():
        estimate, here = estimate_run(input, settings, speed, sample, seed, dataset)
    result = plan_run(estimate, here, kinds, deadline)
    if dataset is not None:
        from kinescribe.storage.estimate import write_estimate

        write_estimate(dataset, estimate)
    print_result(result, as_json)
    if plot:
        from kinescribe.evaluation.plots import write_plot

        write_plot(result, plot)
    _require_offer(result, deadline)


def _read_machines(path: Path | None, deadline_h: float | None) -> tuple[Machine, ...]:
    """The machines of the file. Raises ConfigError if it or the deadline is wrong."""
    from kinescribe.schemas.config import load_config
    from kinescribe.schemas.estimate import Machines

    if deadline_h is not None and not deadline_h > 0:
        raise ConfigError(f"--deadline {deadline_h:g}: give a number of hours above 0")
    if path is None:
        if deadline_h is not None:
            raise ConfigError(f"--deadline {deadline_h:g}: give the available machines by --machines")
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
