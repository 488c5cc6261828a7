"""Options that several commands have, and how they become a job's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from kinescribe.schemas.config import AuroraConfig, CurateConfig, LabelConfig, Resources
    from kinescribe.schemas.training import TrainConfig

Input = Annotated[str, typer.Argument(help="File, folder, glob, URL of a store, or manifest.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file with the job's configuration.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one key, e.g. keyframes.min_interval=10."),
]
Roots = Annotated[
    list[str] | None,
    typer.Option("--root", help="A folder, beside the input's own, in which its files may lie; repeatable."),
]
Labeller = Annotated[
    str | None, typer.Option(help="Dynamics model: 'embedded', a folder, ORG/NAME@COMMIT or MODEL@URL.")
]
Scores = Annotated[
    Literal["likelihood", "likelihood,contrast"] | None,
    typer.Option(help="What says how good an action is."),
]
MicroBatch = Annotated[
    int | None, typer.Option(help="Pairs in one batch of the model; by default found by itself.")
]


def given(**options: object) -> list[str]:
    """The options that were given, as overrides of a configuration."""
    from kinescribe.schemas.config import as_override

    return [as_override(key, value) for key, value in options.items() if value not in (None, [])]


def label_config(
    config: Path | None,
    overrides: list[str] | None,
    dynamics: str | None,
    scores: str | None,
    root: list[str] | None,
) -> LabelConfig:
    """The configuration of a labelling run from its options. Raises ConfigError."""
    from kinescribe.schemas.config import LabelConfig, load_config, read_config

    named = given(**{"dynamics": dynamics, "annotation.scores": scores, "roots": root})
    return load_config(LabelConfig, read_config(config), [*(overrides or []), *named])


def label_resources(
    decode_workers: int | None = None,
    label_workers: int | None = None,
    label_gpus: float | None = None,
    micro_batch: int | None = None,
) -> Resources:
    """How a labelling run uses the machines, from its options. Raises ConfigError."""
    from kinescribe.schemas.config import Resources, load_config

    named = given(decode_workers=decode_workers, label_workers=label_workers)
    named += given(label_gpus=label_gpus, micro_batch=micro_batch)
    return load_config(Resources, None, named)


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
    """The configuration of a training from its options. Raises ConfigError."""
    from kinescribe.schemas.config import load_config, read_config
    from kinescribe.schemas.training import TRAININGS

    shares = [f"mix.{share.strip()}" for share in mix.split(",")] if mix is not None else []
    named = [*given(data=data, out=out, select=select, weights=weights), *shares]
    return load_config(TRAININGS[task], read_config(config), [*(overrides or []), *named])


def curate_config(
    top_k: int,
    by: str,
    score: str,
    min_score: float | None,
    min_motion: float | None,
    max_motion: float | None,
    duplicates: str,
) -> CurateConfig:
    """What is to be chosen, from the options of `curate`. Raises ConfigError."""
    from kinescribe.schemas.config import CurateConfig, load_config

    named = given(top_k=top_k, by=by, score=score, min_score=min_score, duplicates=duplicates)
    return load_config(CurateConfig, None, named + given(min_motion=min_motion, max_motion=max_motion))


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
    """What is to be evaluated on AURORA-Bench, from the options. Raises ConfigError."""
    from kinescribe.schemas.config import AuroraConfig, load_config

    named = given(world=world, dynamics=dynamics, num_samples=num_samples, runs=runs, seed=seed)
    return load_config(AuroraConfig, None, named + given(clip=clip, dino=dino, judge=judge))
