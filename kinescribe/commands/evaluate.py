"""`kinescribe evaluate …`: measures labels and models, mostly against the simulated world's exact truth.

Reads options, calls one function, prints and plots its result. Imports what a command needs when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kinescribe import evaluate as measures
from kinescribe.commands.options import Dataset, Json, Plot, Seed, aurora_config
from kinescribe.display import print_result, progress_bar, warn
from kinescribe.preconditions import require_extras, require_file, require_folder
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.rendering import HasFigure

evaluate = typer.Typer(help="Measure labels and models, mostly against exact truth.", no_args_is_help=True)
human = typer.Typer(help="Build a study for human raters, and score it.", no_args_is_help=True)
evaluate.add_typer(human, name="human")

Cases = Annotated[int, typer.Option(min=1, help="Number of scenes and actions to draw.")]
Samples = Annotated[int, typer.Option("-n", min=1, help="Number of samples to choose the best of.")]
Chooser = Annotated[str | None, typer.Option(help="Dynamics model that chooses the best sample.")]
World = Annotated[str, typer.Option(help="World model: 'embedded-world', a folder or ORG/NAME@COMMIT.")]
BertScore = Annotated[
    str | None, typer.Option(help="Text encoder, a folder or ORG/NAME@COMMIT: adds BERTScore.")
]
Dynamics = Annotated[str, typer.Option(help="Dynamics model: 'embedded', a folder or ORG/NAME@COMMIT.")]


@evaluate.command("labels")
def labels(
    dataset: Dataset,
    truth: Annotated[Path, typer.Option(help="Folder that `simulate clips` wrote.")],
    bertscore: BertScore = None,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Score the labels of simulated clips. Pairs that don't show a single action don't count."""
    _require("evaluate labels", plot)
    from kinescribe.evaluation.label_accuracy import compare, score

    predictions, shown = compare(dataset, truth)
    scores = score(predictions, bertscore)
    print_result(scores, as_json, {"shown": shown} if shown else None)
    draw_plot(scores, plot)


@evaluate.command("dynamics")
def dynamics_model(
    dataset: Dataset,
    dynamics: Dynamics = "embedded",
    num: Annotated[int | None, typer.Option(min=1, help="Use only the first N triplets.")] = None,
    bertscore: BertScore = None,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Score the actions that a dynamics model gives for simulated triplets."""
    _require("evaluate dynamics", plot)
    scores = measures.dynamics(dataset, dynamics, num=num, bertscore=bertscore)
    print_result(scores, as_json)
    draw_plot(scores, plot)


@evaluate.command("camera")
def camera(
    dataset: Dataset,
    num: Annotated[int | None, typer.Option(min=1, help="Use only the first N triplets.")] = None,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Score what labels say of the camera, on any footage, against the motion of the background."""
    require_plot(plot)
    with progress_bar("pairs") as progress:
        scores = measures.camera(dataset, num=num, progress=progress)
    print_result(scores, as_json)
    draw_plot(scores, plot)


@evaluate.command("world")
def world_model(
    world: World = "embedded-world",
    num: Cases = 200,
    seed: Seed = 0,
    num_samples: Samples = 1,
    dynamics: Chooser = None,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Judge a world model in simulated scenes, beside a copy of the source and the codec's reconstruction."""
    require_plot(plot)
    options = {"num": num, "seed": seed, "num_samples": num_samples}
    with progress_bar("cases") as progress:
        scores = measures.world(world, **options, dynamics=dynamics, progress=progress)
    print_result(scores, as_json)
    draw_plot(scores, plot)


@evaluate.command("best-of-n")
def best_of_n(
    world: World = "embedded-world",
    dynamics: Dynamics = "embedded",
    counts: Annotated[
        str, typer.Option("--n", metavar="N,N,…", help="Numbers of samples to compare.")
    ] = "1,2,4,8",
    num: Cases = 200,
    seed: Seed = 0,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Judge the best of N samples for each N, chosen by a dynamics model and by the judge itself."""
    numbers = _counts(counts)
    require_plot(plot)
    with progress_bar("cases") as progress:
        result = measures.best_of_n(world, dynamics, counts=numbers, num=num, seed=seed, progress=progress)
    print_result(result, as_json)
    draw_plot(result, plot)


@evaluate.command("preference")
def preference(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="'embedded', a folder or ORG/NAME@COMMIT.")],
    dataset: Dataset,
    task: Annotated[
        Literal["dynamics", "world"], typer.Option(help="The likelihood of actions or of targets.")
    ] = "dynamics",
    num: Annotated[int, typer.Option(min=1, help="Use only the first N triplets.")] = 500,
    seed: Seed = 0,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Measure how often a model finds true triplets likelier than corrupted ones."""
    require_plot(plot)
    with progress_bar("triplets") as progress:
        result = measures.preference(model, dataset, task=task, num=num, seed=seed, progress=progress)
    print_result(result, as_json)
    draw_plot(result, plot)


@evaluate.command("aurora")
def aurora(
    data: Annotated[Path, typer.Option(help="Folder of AURORA-Bench, with test.json and images.")],
    world: World = "embedded-world",
    dynamics: Chooser = None,
    num_samples: Samples = 1,
    runs: Annotated[int, typer.Option(min=1, help="Number of runs of the whole benchmark.")] = 1,
    seed: Seed = 0,
    clip: Annotated[
        str | None, typer.Option(help="CLIP model, a folder or ORG/NAME@COMMIT: adds CLIP-I and CLIP-T.")
    ] = None,
    dino: Annotated[str | None, typer.Option(help="DINO model, a folder or ORG/NAME@COMMIT.")] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL@URL", help="Judge on an OpenAI-compatible server.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for images, values and replies; run again to resume.")
    ] = Path("out/aurora"),
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Run AURORA-Bench on a world model: L1, CLIP, DINO and a judge, beside a copy of the source."""
    _require("evaluate aurora", plot)
    require_folder("--out", str(out))
    config = aurora_config(world, dynamics, num_samples, runs, seed, clip, dino, judge)
    from kinescribe.evaluation.aurora import evaluate_aurora
    from kinescribe.media.still_images import motion_between

    scores = evaluate_aurora(data, config, out, motion_between, progress_bar)
    print_result(scores, as_json, {"out": str(out)})
    draw_plot(scores, plot)


@human.command("build")
def build_human_study(
    models: Annotated[
        list[str],
        typer.Option("--model", metavar="NAME=FOLDER", help="A model's outputs; repeat for 2 to 9 models."),
    ],
    out: Annotated[str, typer.Option(help="File or URL of the page, .html. Its key is written beside it.")],
    num: Annotated[int | None, typer.Option(min=1, help="Number of cases, spread over the tasks.")] = None,
    seed: Seed = 0,
) -> None:
    """Write a page on which people choose the best and the worst of several models' outputs, blind."""
    folders = dict(_named(model) for model in models)
    if len(folders) < len(models):
        raise ConfigError("two --model have the same name; give each its own")
    require_file("--out", out)
    from kinescribe.evaluation.human_study import build_study

    key = build_study(folders, out, num, seed, warn)
    print(out, key, sep="\n")


@human.command("score")
def score_human_study(
    exports: Annotated[
        list[Path], typer.Argument(metavar="EXPORT", help="Files that raters exported from the page.")
    ],
    key: Annotated[Path, typer.Option(help="Key that `build` wrote beside the page.")],
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Score the raters' choices: 1 for the best, -1 for the worst. With tests and agreement with a judge."""
    from kinescribe.evaluation.human_study import read_key
    from kinescribe.evaluation.human_study_scores import score_study

    require_plot(plot)
    scores = score_study(read_key(key), exports)
    print_result(scores, as_json)
    draw_plot(scores, plot)


def _named(model: str) -> tuple[str, Path]:
    name, equals, folder = model.partition("=")
    if not (name and equals and folder):
        raise ConfigError(f"--model {model}: expected NAME=FOLDER, a name and the folder of its outputs")
    return name, Path(folder)


def _require(command: str, plot: Path | None) -> None:
    require_extras(command, "evaluate")
    require_plot(plot)


def require_plot(plot: Path | None) -> None:
    """Raises ConfigError if a plot is asked for that cannot be written."""
    if plot:
        from kinescribe.evaluation.plots import require_plot_file

        require_plot_file(plot)


def draw_plot(result: HasFigure, plot: Path | None) -> None:
    """Draw the result into the file, if one is named."""
    if plot:
        from kinescribe.evaluation.plots import write_plot

        write_plot(result, plot)


def _counts(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--n {text}: give whole numbers, separated by commas, e.g. 1,2,4,8")
    return sorted({int(part) for part in parts})
