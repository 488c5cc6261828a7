"""Options that several commands have, and how they become a job's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from schemas.config import LabelConfig

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
    from schemas.config import as_override

    return [as_override(key, value) for key, value in options.items() if value not in (None, [])]


def label_config(
    config: Path | None,
    overrides: list[str] | None,
    dynamics: str | None,
    scores: str | None,
    root: list[str] | None,
) -> LabelConfig:
    """The configuration of a labelling run from its options. Raises ConfigError."""
    from schemas.config import LabelConfig, load_config, read_config

    named = given(**{"dynamics": dynamics, "annotation.scores": scores, "roots": root})
    return load_config(LabelConfig, read_config(config), [*(overrides or []), *named])
