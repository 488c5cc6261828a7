"""`kinescribe simulate …`: draws clips and triplets from the simulated world, for labelling, training and
evaluation.

Part of the command line, like `commands/evaluate.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kinescribe.commands.options import Seed
from kinescribe.display import progress_bar
from kinescribe.preconditions import require_folder

simulate = typer.Typer(help="Draw from the simulated world, with known ground truth.", no_args_is_help=True)

Num = Annotated[int, typer.Option(min=1, help="The least number to draw.")]
Split = Annotated[Literal["train", "test"], typer.Option(help="The two splits never share a draw.")]


@simulate.command("clips")
def simulate_clips(
    out: Annotated[Path, typer.Option(help="Folder for clips/CLASS/*.mp4 and truth.jsonl.")],
    num: Num = 40,
    split: Split = "test",
    seed: Seed = 0,
) -> None:
    """Write H.264 clips to label, and the true actions of each."""
    require_folder("--out", str(out))
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
        str | None,
        typer.Option(help="'embedded' or a codec's folder; without it, codes and importance are empty."),
    ] = None,
    camera_weight: Annotated[
        float,
        typer.Option(
            min=0, help="How often each camera motion is tried, relative to 5 for moving an object."
        ),
    ] = 2.0,
    rough_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of scenes that are shaky, flickering and noisy.")
    ] = 0.5,
) -> None:
    """Write labelled triplets to train a codec or a dynamics model on."""
    require_folder("--out", out)
    from kinescribe.models.checkpoint_files import EMBEDDED
    from kinescribe.models.codec import ImageCodec
    from kinescribe.models.families import CODEC
    from kinescribe.simulation.triplets import Draw, write_triplets

    with progress_bar("units") as progress:
        folder = EMBEDDED[codec] / CODEC if codec in EMBEDDED else codec and Path(codec)
        loaded = ImageCodec.load(folder) if folder else None
        draw = Draw(camera_weight, rough_share)
        write_triplets(out, num, split, seed, loaded, draw=draw, progress=progress)
    print(out)
