"""`kinescribe evaluate …`: how good labels and models are, measured against the simulated world's truth.

Part of the command line: reads options, calls one function, prints and plots what it returned. Nothing heavy
is imported before a command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kinescribe.commands.options import aurora_config
from kinescribe.display import (
    print_result,
    progress_bar,
    warn,
)
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.rendering import HasFigure

evaluate = typer.Typer(help="Score labels and models; most against exact truth.", no_args_is_help=True)
human = typer.Typer(
    help="A study with people: the page that they rate on, and its scores.", no_args_is_help=True
)
evaluate.add_typer(human, name="human")

Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="Folder or URL of a labelled dataset.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed draws the same.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
Plot = Annotated[Path | None, typer.Option(help="Draw the result into this file, e.g. scores.png.")]
Cases = Annotated[int, typer.Option(min=1, help="How many scenes and actions to draw.")]
World = Annotated[str, typer.Option(help="World model: 'embedded-world', a folder or ORG/NAME@COMMIT.")]
BertScore = Annotated[str | None, typer.Option(help="A text encoder, folder or hub's: BERTScore too.")]
Dynamics = Annotated[str, typer.Option(help="Dynamics model: 'embedded', a folder or ORG/NAME@COMMIT.")]


@evaluate.command("labels")
def labels(
    dataset: Dataset,
    truth: Annotated[Path, typer.Option(help="Folder that `simulate clips` wrote.")],
    bertscore: BertScore = None,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Score the labels of simulated clips; pairs that show no single action don't count."""
    from kinescribe.evaluation.label_accuracy import compare, score

    _check(plot)
    predictions, shown = compare(dataset, truth)
    scores = score(predictions, bertscore)
    print_result(scores, as_json, {"shown": shown} if shown else None)
    _draw(scores, plot)


@evaluate.command("dynamics")
def dynamics_model(
    dataset: Dataset,
    dynamics: Dynamics = "embedded",
    num: Annotated[int | None, typer.Option(min=1, help="Only the first so many triplets.")] = None,
    bertscore: BertScore = None,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Score what a dynamics model says of simulated triplets."""
    from kinescribe.evaluation.label_accuracy import predict, score
    from kinescribe.models.registry import load

    _check(plot)
    scores = score(predict(dataset, load(dynamics, "describer"), num), bertscore)
    print_result(scores, as_json)
    _draw(scores, plot)


@evaluate.command("world")
def world_model(
    world: World = "embedded-world",
    num: Cases = 200,
    seed: Seed = 0,
    num_samples: Annotated[int, typer.Option("-n", min=1, help="Samples to choose the best of.")] = 1,
    dynamics: Annotated[str | None, typer.Option(help="Dynamics model that chooses.")] = None,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Judge what a world model imagines in simulated scenes, beside a copy and the codec's best."""
    if num_samples > 1 and dynamics is None:
        raise ConfigError(f"-n {num_samples} needs a model that chooses the best; give --dynamics")
    from kinescribe.evaluation.world import score_world
    from kinescribe.models.registry import load

    _check(plot)
    models = load(world, "world"), load(dynamics, "dynamics") if dynamics else None
    with progress_bar("cases") as progress:
        scores = score_world(*models, num, num_samples, seed, progress)
    print_result(scores, as_json)
    _draw(scores, plot)


@evaluate.command("best-of-n")
def best_of_n(
    world: World = "embedded-world",
    dynamics: Dynamics = "embedded",
    counts: Annotated[str, typer.Option("--n", metavar="N,N,…", help="Numbers of samples.")] = "1,2,4,8",
    num: Cases = 200,
    seed: Seed = 0,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Judge the best of N imagined targets for each N, chosen by a dynamics model and by the judge itself."""
    numbers = _counts(counts)
    from kinescribe.evaluation.world import score_best_of_n
    from kinescribe.models.registry import load

    _check(plot)
    models = load(world, "world"), load(dynamics, "dynamics")
    with progress_bar("cases") as progress:
        result = score_best_of_n(*models, numbers, num, seed, progress)
    print_result(result, as_json)
    _draw(result, plot)


@evaluate.command("preference")
def preference(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="'embedded', a folder or ORG/NAME@COMMIT.")],
    dataset: Dataset,
    task: Annotated[Literal["dynamics", "world"], typer.Option(help="Whose likelihood.")] = "dynamics",
    num: Annotated[int, typer.Option(min=1, help="Only the first so many triplets.")] = 500,
    seed: Seed = 0,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Say how often a model finds true triplets likelier than the same with something made false."""
    from kinescribe.evaluation.preference import prefer
    from kinescribe.models.registry import load

    _check(plot)
    loaded = load(model, "dynamics" if task == "dynamics" else "unified")
    with progress_bar("triplets") as progress:
        result = prefer(loaded, dataset, task, num, seed, progress)
    print_result(result, as_json)
    _draw(result, plot)


@evaluate.command("aurora")
def aurora(
    data: Annotated[Path, typer.Option(help="AURORA-Bench's folder, with test.json and images.")],
    world: World = "embedded-world",
    dynamics: Annotated[str | None, typer.Option(help="Dynamics model that chooses.")] = None,
    num_samples: Annotated[int, typer.Option("-n", min=1, help="Samples to choose the best of.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="How often the benchmark is imagined.")] = 1,
    seed: Seed = 0,
    clip: Annotated[str | None, typer.Option(help="A CLIP model, folder or hub's: CLIP-I, CLIP-T.")] = None,
    dino: Annotated[str | None, typer.Option(help="A DINO model, folder or hub's.")] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL@URL", help="Judge behind an OpenAI-compatible server.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for images, values and replies; run again to go on.")
    ] = Path("out/aurora"),
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Run AURORA-Bench on a world model: L1, CLIP, DINO and a judge, beside a copy of the source."""
    _check(plot)
    config = aurora_config(world, dynamics, num_samples, runs, seed, clip, dino, judge)
    from kinescribe.evaluation.aurora import evaluate_aurora
    from kinescribe.media.still_images import motion_between

    scores = evaluate_aurora(data, config, out, motion_between, progress_bar)
    print_result(scores, as_json, {"out": str(out)})
    _draw(scores, plot)


@human.command("build")
def build_human_study(
    models: Annotated[
        list[str],
        typer.Option("--model", metavar="NAME=FOLDER", help="A model's outputs; repeat for each of 2 to 9."),
    ],
    out: Annotated[str, typer.Option(help="File or URL of the page, .html; its key is written beside it.")],
    num: Annotated[int | None, typer.Option(min=1, help="How many cases, of each task as many.")] = None,
    seed: Seed = 0,
) -> None:
    """Write one page on which people choose the best and the worst of several models' outputs, blind."""
    folders = dict(_named(model) for model in models)
    if len(folders) < len(models):
        raise ConfigError("two --model have one name; give each a name of its own")
    from kinescribe.evaluation.human_study import build_study

    key = build_study(folders, out, num, seed, warn)
    print(out, key, sep="\n")


@human.command("score")
def score_human_study(
    exports: Annotated[list[Path], typer.Argument(metavar="EXPORT", help="Files that raters exported.")],
    key: Annotated[Path, typer.Option(help="The key that `build` wrote beside the page.")],
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Score what people chose: 1 for the best, -1 for the worst; tests, win rates, agreement with a judge."""
    from kinescribe.evaluation.human_study import read_key
    from kinescribe.evaluation.human_study_scores import score_study

    _check(plot)
    scores = score_study(read_key(key), exports)
    print_result(scores, as_json)
    _draw(scores, plot)


def _named(model: str) -> tuple[str, Path]:
    name, equals, folder = model.partition("=")
    if not (name and equals and folder):
        raise ConfigError(f"--model {model}: give a name and the folder of its outputs, NAME=FOLDER")
    return name, Path(folder)


def _check(plot: Path | None) -> None:
    if plot:
        from kinescribe.evaluation.plots import require_plot_file

        require_plot_file(plot)


def _draw(result: HasFigure, plot: Path | None) -> None:
    if plot:
        from kinescribe.evaluation.plots import write_plot

        write_plot(result, plot)


def _counts(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"--n {text}: give whole numbers above 0 with commas between, e.g. 1,2,4,8")
    return sorted({int(part) for part in parts})
