"""`kinescribe curate`: selects the best triplets of datasets.

Reads options, calls one function, prints its result.
"""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from kinescribe import api
from kinescribe.commands.options import Json, curate_config, with_options
from kinescribe.display import print_result, progress_bar

Classes = Annotated[
    Literal["action_class", "video", "clip_id", "action"],
    typer.Option(help="Column of the classes that triplets are chosen from in turn."),
]
Score = Annotated[
    Literal["mean", "sum", "contrast", "agreement"],
    typer.Option(help="Log-probability of the action per token or as a sum, its contrast, or --agree."),
]
Materialize = Annotated[
    str | None, typer.Option(help="Also copy the chosen triplets into this dataset; run again to resume.")
]
MinMotion = Annotated[float | None, typer.Option(help="Drop triplets with less motion.")]
MinProbability = Annotated[
    float | None, typer.Option(help="Drop those whose action is less probable among a vocabulary's.")
]
Agree = Annotated[
    str | None,
    typer.Option(help="Dataset of the same clips by another model: drop what it says differently."),
]
AgreeBy = Annotated[
    str, typer.Option(metavar="BY", help="How the words are compared: exact, rouge, or a text encoder.")
]
MinAgreement = Annotated[
    float | None, typer.Option(help="Drop those that agree less, 0 to 1. [1, or 0 with --score agreement]")
]
Ids = Annotated[
    str | None, typer.Option(help="File with ids of triplets, as reports export them: drop all others.")
]
Duplicates = Annotated[
    Literal["keep", "drop", "near"],
    typer.Option(
        help="drop: keep the best of the triplets with the same action and clip; near: the best of those "
        "that show the same, as copies of a clip do."
    ),
]
MaxClipping = Annotated[
    float | None, typer.Option(help="Drop triplets with a larger share of crushed or blown pixels.")
]
MinPrecision = Annotated[
    float | None,
    typer.Option(help="Drop the least likely, so that this share of the rest is right, by the --review."),
]
Reviews = Annotated[
    list[str] | None,
    typer.Option("--review", help="File that a review page exported: drop what raters found wrong."),
]


def curate(
    datasets: Annotated[list[str], typer.Argument(metavar="DATASET", help="Labelled datasets.")],
    top_k: Annotated[int, typer.Option(help="How many triplets to choose.")],
    out: Annotated[str, typer.Option(help="Parquet file to write the selection to.")],
    stratify_by: Classes = "action_class",
    score: Score = "mean",
    min_score: Annotated[float | None, typer.Option(help="Drop triplets with a lower score.")] = None,
    min_probability: MinProbability = None,
    review: Reviews = None,
    min_precision: MinPrecision = None,
    ids: Ids = None,
    agree: Agree = None,
    agree_by: AgreeBy = "exact",
    min_agreement: MinAgreement = None,
    min_motion: MinMotion = None,
    max_motion: Annotated[float | None, typer.Option(help="Drop triplets with more motion.")] = None,
    min_sharpness: Annotated[float | None, typer.Option(help="Drop triplets that are less sharp.")] = None,
    min_brightness: Annotated[float | None, typer.Option(help="Drop darker triplets; 0 to 1.")] = None,
    max_brightness: Annotated[float | None, typer.Option(help="Drop brighter triplets; 0 to 1.")] = None,
    max_clipping: MaxClipping = None,
    max_bars: Annotated[float | None, typer.Option(help="Drop those with a larger share of bars.")] = None,
    max_text: Annotated[float | None, typer.Option(help="Drop those with a larger share of writing.")] = None,
    duplicates: Duplicates = "keep",
    materialize: Materialize = None,
    as_json: Json = False,
) -> None:
    """Select the likeliest triplets, the same number of each class."""
    settings = with_options(curate_config, locals())
    with progress_bar("units") as progress:
        result = api.curate(
            datasets,
            out,
            settings,
            reviews=review or None,
            agree=agree,
            agree_by=agree_by,
            ids=ids,
            materialize=materialize,
            progress=progress,
        )
    print_result(result, as_json)
    if result.missing:
        print(f"only {result.chosen:,} triplets were left to choose from; took all", file=sys.stderr)
