"""The commands that train, inspect, convert and use models: train, models, codec, imagine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from kinescribe.commands.options import (
    ConfigFile,
    DryRun,
    Json,
    Seed,
    TrainOverrides,
    imagine_config,
    train_config,
)
from kinescribe.display import print_list, print_result, print_tables, stdout_for_results, warn
from kinescribe.preconditions import require_extras, require_folder
from kinescribe.schemas.codes import Fit
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.rendering import Table


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


def codec(
    source: Annotated[
        Path, typer.Argument(help="vqgan.ckpt with vqgan.yaml beside it, or a folder of Anole or Emu3.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: codec/ in the folder of the model.")],
    fit: Annotated[
        Fit | None,
        typer.Option(
            help="How images that aren't square are seen. Default: as the model's authors do, or crop."
        ),
    ] = None,
) -> None:
    """Convert the image codec of a published checkpoint into the `codec` folder of a model."""
    require_folder("--out", str(out))
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"--out {out}: this folder holds files that would be lost; name an empty folder")
    with stdout_for_results():
        from kinescribe.models.checkpoint_files import published_fit
        from kinescribe.models.codec_conversion import published_codec

        codec = published_codec(source)
        codec.fit = fit or published_fit(out.absolute().parent)
        codec.save(out)
    print(out)


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
