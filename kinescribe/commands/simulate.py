"""`kinescribe simulate …`: draws from the simulated world, to label, to train on, and to measure by.

Part of the command line, as `kinescribe/evaluate.py` is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kinescribe.commands.options import Seed
from kinescribe.display import progress_bar

simulate = typer.Typer(help="Draw from the simulated world, whose truth is known.", no_args_is_help=True)

Num = Annotated[int, typer.Option(min=1, help="How many to draw, at least.")]
Split = Annotated[Literal["train", "test"], typer.Option(help="Draws of the two never meet.")]


@simulate.command("clips")
def simulate_clips(
    out: Annotated[Path, typer.Option(help="Folder for clips/CLASS/*.mp4 and truth.jsonl.")],
    num: Num = 40,
    split: Split = "test",
    seed: Seed = 0,
) -> None:
    """Write H.264 clips to label, and beside them what truly happens in each."""
    from kinescribe.simulation.clips import write_clips

    with progress_bar("clips") as progress:
        write_clips(out, num, split, seed, progress=progress)
    print(out / "clips")


@simulate.command("triplets")
def simulate_triplets(
    out: Annotated[str, typer.Option(help="Folder of the dataset; run again to resume.")],
    num: Num = 10_000,
    split: Split = "train",
    seed: Seed = 0,
    codec: Annotated[
        Path | None, typer.Option(help="Folder of a codec; without one, codes and importance stay empty.")
    ] = None,
    camera_weight: Annotated[
        float,
        typer.Option(min=0, help="How often each camera motion is tried, where moving an object is 5."),
    ] = 2.0,
    rough_share: Annotated[
        float, typer.Option(min=0, max=1, help="Of scenes that are hand-held, flickering or dim.")
    ] = 0.5,
) -> None:
    """Write labelled triplets to train a codec or a dynamics model on."""
    from kinescribe.models.codec import ImageCodec
    from kinescribe.simulation.triplets import Draw, write_triplets

    with progress_bar("units") as progress:
        loaded = ImageCodec.load(codec) if codec else None
        draw = Draw(camera_weight, rough_share)
        write_triplets(out, num, split, seed, loaded, draw=draw, progress=progress)
    print(out)
