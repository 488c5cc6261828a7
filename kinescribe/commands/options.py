"""Options that several commands have, and the configuration that is made of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer
from typer.core import TyperCommand

from kinescribe.schemas.errors import ConfigError

if TYPE_CHECKING:
    from kinescribe.schemas.config import (
        AuroraConfig,
        CurateConfig,
        ImagineConfig,
        IngestConfig,
        LabelConfig,
        Resources,
    )
    from kinescribe.schemas.training import TrainConfig

Result = TypeVar("Result")


def _set_option(example: str) -> Any:
    return typer.Option("--set", metavar="KEY=VALUE", help=f"Override a configuration key, e.g. {example}.")


Input = Annotated[str, typer.Argument(help="File, folder, glob, URL of an object store, or manifest.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file with the configuration.")]
Overrides = Annotated[list[str] | None, _set_option("keyframes.min_interval=10")]
IngestOverrides = Annotated[list[str] | None, _set_option("image.format=png")]
TrainOverrides = Annotated[list[str] | None, _set_option("optimization.learning_rate=1e-4")]
Roots = Annotated[
    list[str] | None,
    typer.Option("--root", help="A further folder that the input's files may be in; repeatable."),
]
Labeller = Annotated[
    str | None, typer.Option(help="Dynamics model: 'embedded', a folder, ORG/NAME@COMMIT or MODEL@URL.")
]
Columns = Annotated[
    str | None,
    typer.Option(metavar="NAME,…", help="Columns of the manifest to carry into the dataset as they are."),
]
Scores = Annotated[
    Literal["likelihood", "likelihood,contrast"] | None,
    typer.Option(help="Scores of each action; contrast takes three more passes."),
]
MicroBatch = Annotated[
    int | None, typer.Option(help="Pairs in one batch of the model. By default as many as fit.")
]
Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="Folder or URL of a labelled dataset.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and print what would be done, without doing it.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the random draws.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
Plot = Annotated[Path | None, typer.Option(help="Draw the result into this file: .png, .pdf or .svg.")]


def with_old_names(renamed: Mapping[str, str]) -> type[TyperCommand]:
    """A command that still accepts options by their old names, with a note on stderr, for one version."""

    class Command(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, [_new_name(arg, renamed) for arg in args])

    return Command


def _new_name(argument: str, renamed: Mapping[str, str]) -> str:
    name, equals, value = argument.partition("=")
    if name not in renamed:
        return argument
    print(f"note: {name} is now {renamed[name]}; the next version drops the old name", file=sys.stderr)
    return f"{renamed[name]}{equals}{value}"


def label_config(
    config: Path | None,
    overrides: list[str] | None,
    dynamics: str | None,
    scores: str | None,
    root: list[str] | None,
    columns: str | None = None,
) -> LabelConfig:
    """The configuration of `label`. Raises ConfigError."""
    from kinescribe.schemas.config import LabelConfig, load_config
    from kinescribe.schemas.yaml_values import read_config

    values: dict[str, Any] = {"dynamics": dynamics, "annotation.scores": scores, "roots": root or None}
    values["columns"] = [name.strip() for name in columns.split(",")] if columns else None
    return load_config(LabelConfig, read_config(config), overrides or (), values)


def ingest_config(
    config: Path | None, overrides: list[str] | None, dynamics: str | None, root: list[str] | None
) -> IngestConfig:
    """The configuration of `ingest`. Raises ConfigError."""
    from kinescribe.schemas.config import IngestConfig, load_config
    from kinescribe.schemas.yaml_values import read_config

    values = {"dynamics": dynamics, "roots": root or None}
    return load_config(IngestConfig, read_config(config), overrides or (), values)


def label_resources(
    decode_workers: int | None = None,
    label_workers: int | None = None,
    label_gpus: float | None = None,
    micro_batch: int | None = None,
    concurrency: int | None = None,
) -> Resources:
    """How `label` uses the machines. Raises ConfigError."""
    from kinescribe.schemas.config import Resources, load_config

    return load_config(
        Resources,
        values={
            "decode_workers": decode_workers,
            "label_workers": label_workers,
            "label_gpus": label_gpus,
            "micro_batch": micro_batch,
            "concurrency": concurrency,
        },
    )


def train_config(
    task: str,
    data: list[str] | None,
    out: str | None,
    config: Path | None,
    overrides: list[str] | None,
    select: str | None,
    mix: str | None,
    weights: str | None,
) -> TrainConfig:
    """The configuration of a training. Raises ConfigError."""
    from kinescribe.schemas.config import load_config
    from kinescribe.schemas.training import TRAININGS
    from kinescribe.schemas.yaml_values import read_config

    shares = [f"mix.{share.strip()}" for share in mix.split(",")] if mix is not None else []
    values = {"data": data or None, "out": out, "select": select, "weights": weights}
    return load_config(TRAININGS[task], read_config(config), [*(overrides or []), *shares], values)


def with_options(function: Callable[..., Result], options: Mapping[str, Any]) -> Result:
    """What the function returns for those of a command's options that are its parameters."""
    return function(**{name: options[name] for name in signature(function).parameters})


def curate_config(
    *,
    top_k: int,
    stratify_by: str,
    score: str,
    min_score: float | None,
    min_precision: float | None,
    min_agreement: float | None,
    min_probability: float | None,
    min_motion: float | None,
    max_motion: float | None,
    min_sharpness: float | None,
    min_brightness: float | None,
    max_brightness: float | None,
    max_clipping: float | None,
    max_bars: float | None,
    max_text: float | None,
    duplicates: str,
) -> CurateConfig:
    """What `curate` chooses. Raises ConfigError."""
    values = dict(locals())
    from kinescribe.schemas.config import CurateConfig, load_config

    return load_config(CurateConfig, values=values)


def imagine_config(
    world: str,
    dynamics: str,
    action: str | None,
    actions: str | None,
    num: int,
    seed: int,
    temperature: float,
) -> ImagineConfig:
    """What `imagine` draws. Raises ConfigError."""
    from kinescribe.schemas.config import ImagineConfig, load_config

    if action is not None and actions is not None:
        raise ConfigError("give one of --action, for one action, and --actions, for several")
    if action is None and actions is None:
        raise ConfigError(
            "no action; give --action 'move the red ball left', or several with --actions 'A; B'"
        )
    return load_config(
        ImagineConfig,
        values={
            "world": world,
            "dynamics": dynamics,
            "actions": [action] if actions is None else actions.split(";"),
            "num_samples": num,
            "seed": seed,
            "temperature": temperature,
        },
    )


def aurora_config(
    world: str,
    dynamics: str | None,
    num_samples: int,
    runs: int,
    seed: int,
    clip: str | None,
    dino: str | None,
    judge: str | None,
) -> AuroraConfig:
    """What `evaluate aurora` runs. Raises ConfigError."""
    from kinescribe.schemas.config import AuroraConfig, load_config

    return load_config(
        AuroraConfig,
        values={
            "world": world,
            "dynamics": dynamics,
            "num_samples": num_samples,
            "runs": runs,
            "seed": seed,
            "clip": clip,
            "dino": dino,
            "judge": judge,
        },
    )
