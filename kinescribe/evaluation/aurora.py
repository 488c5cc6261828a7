"""Runs AURORA-Bench on a world model: imagines every case, measures it beside a copy, asks a judge.

One folder holds everything: images, `outputs.json` for the human study, `samples.csv` with every value, and
`replies.jsonl` with every reply of a judge. Run again, it resumes: existing images are kept, and a judge,
more runs or other metrics can be added. Images are the squares that the model sees.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kinescribe.evaluation.aurora_data import BenchmarkCase, LeftOut, read_benchmark
from kinescribe.evaluation.aurora_scores import (
    COPY,
    JUDGE,
    MODEL,
    AuroraScores,
    MeasuredImage,
    halves,
    score_measured,
)
from kinescribe.evaluation.image_metrics import Similarity
from kinescribe.evaluation.model_outputs import Output, write_outputs
from kinescribe.evaluation.vlm_judge import JudgeReply, Sample, judge_samples
from kinescribe.inference.best_of_n import imagine_best
from kinescribe.media.source_image import read_source_image
from kinescribe.models.checkpoint_files import identify, model_folder
from kinescribe.models.dynamics import DynamicsModel
from kinescribe.models.endpoint import Endpoint
from kinescribe.models.fitting import fitted
from kinescribe.models.registry import load
from kinescribe.models.world import WorldModel
from kinescribe.schemas.config import AuroraConfig
from kinescribe.schemas.errors import ConfigError, InputError
from kinescribe.schemas.rendering import Progress
from kinescribe.storage import objects

RECORD, SAMPLES, REPLIES, IMAGES = "aurora.json", "samples.csv", "replies.jsonl", "images"
PLACE = ("row", "run", "case", "task", "half")
"""The columns of `samples.csv` before the values."""
BATCH = 32
Counted = Callable[[str], AbstractContextManager[Progress]]
"""Makes a progress bar with a title; it yields a function of the number done and the total."""
Motion = Callable[[np.ndarray, np.ndarray], float]
"""Measures the motion between two RGB images of the same size."""


class View(NamedTuple):
    """A case as the model sees it. Source and target are square PNG files."""

    case: BenchmarkCase
    source: Path
    target: Path


class Made(NamedTuple):
    """An image to measure: its row, run, case, motion half and file."""

    row: str
    run: int
    view: View
    half: str
    file: Path


def evaluate_aurora(
    data: Path, config: AuroraConfig, out: Path, motion: Motion, counted: Counted
) -> AuroraScores:
    """Run the benchmark in the folder `data`, and keep everything in the folder `out`.

    Raises InputError, ConfigError and ModelError before anything is drawn.
    """
    cases, left_out = read_benchmark(data)
    endpoint = Endpoint.named(config.judge) if config.judge else None
    similarity = Similarity(*(model_folder(name) if name else None for name in (config.clip, config.dino)))
    world = load(config.world, "world")
    dynamics = load(config.dynamics, "dynamics") if config.dynamics else None
    _claim_folder(out, config, cases)
    views, unusable = _views(cases, world, dynamics, out / IMAGES)
    made = list(_made(views, config.runs, motion, out / IMAGES))
    with counted("images") as progress:
        _imagine([image for image in made if image.row == MODEL], world, dynamics, config, progress)
    values = _similar(similarity, made)
    replies = dict[str, JudgeReply]()
    if endpoint:
        with counted("judged") as progress:
            replies = judge_samples(endpoint, _samples(made), out / REPLIES, progress)
    measured = [_measured(image, value, replies) for image, value in zip(made, values, strict=True)]
    _write_samples(out / SAMPLES, measured)
    write_outputs(out, [_output(image, replies) for image in made if (image.row, image.run) == (MODEL, 0)])
    failures = Counter(reply.failure for reply in replies.values() if reply.failure)
    return score_measured(measured, failures, [*left_out, *unusable])


def _claim_folder(out: Path, config: AuroraConfig, cases: Sequence[BenchmarkCase]) -> None:
    """Record what the images depend on. Raises ConfigError if the folder holds anything else."""
    record = {
        "world": identify(config.world).fingerprint,
        "dynamics": identify(config.dynamics).fingerprint if config.dynamics else None,
        "num_samples": config.num_samples,
        "seed": config.seed,
        "cases": hashlib.blake2b(repr([case[:3] for case in cases]).encode(), digest_size=8).hexdigest(),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        before: Any = json.loads((out / RECORD).read_bytes()) if (out / RECORD).exists() else None
        has_files = any(path.is_file() for path in out.rglob("*"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--out {out} cannot be used: {error}; name another folder") from error
    is_own = isinstance(before, dict) and "world" in before
    differing = [name for name in record if is_own and name in before and before[name] != record[name]]
    if (has_files and not is_own) or differing:
        what = f"another evaluation's: {', '.join(differing)} differ" if differing else "not an evaluation's"
        raise ConfigError(f"--out {out} is {what}; name another folder")
    objects.replace(str(out / RECORD), json.dumps(record, indent=2).encode() + b"\n")


def _views(
    cases: Sequence[BenchmarkCase], world: WorldModel, dynamics: DynamicsModel[Any] | None, images: Path
) -> tuple[list[View], list[LeftOut]]:
    """The usable cases, with their images as squares and written, and the others."""
    views, unusable = list[View](), list[LeftOut]()
    for case in cases:
        view = View(case, images / f"{case.id}-source.png", images / f"{case.id}-target.png")
        if not world.takes("world", case.action) or (
            dynamics and not dynamics.takes("dynamics", case.action)
        ):
            unusable.append(LeftOut(case.id, "instruction too long for the model"))
            continue
        try:
            for original, file in ((case.source, view.source), (case.target, view.target)):
                _save(fitted(read_source_image(str(original)), world.resolution, world.fit), file)
        except InputError as error:
            unusable.append(LeftOut(case.id, str(error)))
            continue
        views.append(view)
    if not views:
        raise InputError(f"no case can be used: {unusable[0].reason}")
    return views, unusable


def _made(views: Sequence[View], runs: int, motion: Motion, images: Path) -> Iterator[Made]:
    """The images to measure: one of each case and run, and the source as a copy."""
    motions = [motion(np.asarray(_open(view.source)), np.asarray(_open(view.target))) for view in views]
    with_half = list(zip(views, halves(motions), strict=True))
    for run, (view, half) in product(range(runs), with_half):
        yield Made(MODEL, run, view, half, images / f"{view.case.id}-run{run}.png")
    for view, half in with_half:
        yield Made(COPY, 0, view, half, view.source)


def _imagine(
    wanted: Sequence[Made],
    world: WorldModel,
    dynamics: DynamicsModel[Any] | None,
    config: AuroraConfig,
    progress: Progress,
) -> None:
    """Draw the images that don't exist yet. They don't depend on each other."""
    for done, image in enumerate(wanted, 1):
        if not image.file.exists():
            source = world.encode(_open(image.view.source))
            # The seed depends on the case and the run alone, not on other cases.
            seed = int.from_bytes(hashlib.blake2b(image.view.case.id.encode(), digest_size=4).digest())
            draw = (seed + (config.seed + image.run) * 1_000_003) % 2**32
            imagined = imagine_best(world, dynamics, source, image.view.case.action, config.num_samples, draw)
            _save(world.pictures(imagined.targets_N[[imagined.best]])[0], image.file)
        progress(done, len(wanted))


def _similar(similarity: Similarity, made: Sequence[Made]) -> list[dict[str, float]]:
    values = list[dict[str, float]]()
    for start in range(0, len(made), BATCH):
        batch = made[start : start + BATCH]
        images = [_open(image.file) for image in batch]
        targets = [_open(image.view.target) for image in batch]
        values += similarity(images, targets, [image.view.case.action for image in batch])
    return values


def _samples(made: Sequence[Made]) -> dict[str, Sample]:
    return {
        image.file.stem: Sample(action=image.view.case.action, source=image.view.source, output=image.file)
        for image in made
    }


def _measured(image: Made, values: dict[str, float], replies: dict[str, JudgeReply]) -> MeasuredImage:
    reply = replies.get(image.file.stem)
    judged = {} if reply is None or reply.score is None else {JUDGE: reply.score}
    case = image.view.case
    return MeasuredImage(image.row, image.run, case.id, case.task, image.half, judged | values)


def _output(image: Made, replies: dict[str, JudgeReply]) -> Output:
    case, reply = image.view.case, replies.get(image.file.stem)
    return Output(
        id=case.id,
        instruction=case.action,
        input=f"{IMAGES}/{image.view.source.name}",
        output=f"{IMAGES}/{image.file.name}",
        task=case.task,
        judge=reply.score if reply else None,
    )


def _write_samples(file: Path, measured: Sequence[MeasuredImage]) -> None:
    """Write every value, a line for each image. A cell is empty if a judge gave no score."""
    metrics = dict.fromkeys(metric for image in measured for metric in image.values)
    table = io.StringIO()
    writer = csv.DictWriter(table, [*PLACE, *metrics])
    writer.writeheader()
    for image in measured:
        place = {name: getattr(image, name) for name in PLACE}
        writer.writerow(place | image.values)
    objects.replace(str(file), table.getvalue().encode())


def _open(file: Path) -> Image.Image:
    with Image.open(file, formats=["PNG"]) as image:
        return image.convert("RGB")


def _save(image: Image.Image, file: Path) -> None:
    """Write the image in one step: a killed run must not leave half an image."""
    png = io.BytesIO()
    image.save(png, "PNG")
    objects.replace(str(file), png.getvalue())
