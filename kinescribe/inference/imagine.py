"""Draws what will come of an action, or of several in turn, and keeps what the dynamics model believes most.

From an image and words to images; the sampling and choosing itself is `evaluation/best_of_n.py`.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kinescribe.inference.best_of_n import roll_out
from kinescribe.inference.contact_sheet import Step, contact_sheet
from kinescribe.media.source_image import read_source_image
from kinescribe.models.checkpoint_files import ModelIdentity, identify
from kinescribe.models.codec import crop_square
from kinescribe.models.dynamics import ActionModel, DynamicsModel
from kinescribe.models.registry import load
from kinescribe.models.tokens import Task
from kinescribe.models.world import WorldModel
from kinescribe.schemas.config import ImagineConfig
from kinescribe.schemas.errors import ConfigError, ModelError
from kinescribe.schemas.rendering import Table

RECORD, SHEET = "imagined.json", "sheet.png"
SHOWN = 80
"""Characters of an action in a message."""
BEST = "best-{}.png"
"""Of each step, counted from 1."""


class Loaded(NamedTuple):
    """A model, what it was called and what it is."""

    name: str
    identity: ModelIdentity
    model: ActionModel


@dataclass(frozen=True)
class Imagination:
    """What was imagined, step by step."""

    steps: list[Step]
    record: dict[str, Any]
    """How: all that it takes to do it again, the scores, and the names of the files if they are written."""

    def tables(self, out: Path) -> Iterable[Table]:
        """The best sample of each step, and its file in the folder `out`."""
        yield Table(
            [
                (
                    f"{step['action']}: sample {step['best']} of {self.record['num_samples']},"
                    f" log p {step['scores'][step['best']]:.2f}, {out / step['image']}",
                )
                for step in self.record["steps"]
            ]
        )


def imagine(
    source: str,
    config: ImagineConfig,
    out: Path | None = None,
    warn: Callable[[str], object] = warnings.warn,
) -> Imagination:
    """What comes of the actions where the image `source` (a path or URL) is where they start.

    With `out`, the best image of each step, a contact sheet of all and the record are written to that
    folder, in place of an earlier imagination. `warn` hears of actions that a model has no words for.
    Raises InputError, ConfigError and ModelError: before anything is drawn, but for a model that gives no
    likelihoods.
    """
    picture = read_source_image(source)
    if out is not None:
        _claim(out)
    identities = [identify(name) for name in (config.world, config.dynamics)]
    world, dynamics = _load(config)
    models: dict[Task, Loaded] = {
        "world": Loaded(config.world, identities[0], world),
        "dynamics": Loaded(config.dynamics, identities[1], dynamics),
    }
    _check_actions(config.actions, models, warn)
    steps = _steps(picture, config, world, dynamics)
    imagination = Imagination(steps, _record(source, config, models, steps))
    if out is not None:
        _write(out, imagination)
    return imagination


def _load(config: ImagineConfig) -> tuple[WorldModel, DynamicsModel[Any]]:
    """Both models; one that is both is loaded once."""
    world = load(config.world, "world")
    if config.dynamics == config.world and isinstance(world, DynamicsModel):
        return world, world
    return world, load(config.dynamics, "dynamics")


def _check_actions(
    actions: Sequence[str], models: Mapping[Task, Loaded], warn: Callable[[str], object]
) -> None:
    for action in actions:
        said = repr(shorten(action, SHOWN))
        for task, (name, _, model) in models.items():
            if not model.takes(task, action):
                raise ConfigError(f"the action {said} is too long for {task} model {name}; say it shorter")
        strangers = {name for name, _, model in models.values() if not model.knows_a_word(action)}
        if strangers:
            warn(
                f"no word of {said} is in the vocabulary of {' or '.join(sorted(strangers))}, which sees "
                "them in pieces: what comes out may mean nothing"
            )


def _steps(
    picture: Image.Image, config: ImagineConfig, world: WorldModel, dynamics: DynamicsModel[Any]
) -> list[Step]:
    options = (config.actions, config.seeds, config.num_samples, config.temperature)
    source, steps = crop_square(picture, world.resolution), list[Step]()
    drawn = roll_out(world, dynamics, world.encode(picture), *options)
    for action, imagined in zip(config.actions, drawn, strict=True):
        if not np.isfinite(imagined.scores_N).all():
            raise ModelError(f"dynamics model {config.dynamics} gives no finite likelihood; restore it")
        samples = world.pictures(imagined.targets_N)
        steps.append(Step(action, source, samples, imagined.scores_N.tolist(), imagined.best))
        source = samples[imagined.best]
    return steps


def _record(
    source: str, config: ImagineConfig, models: Mapping[Task, Loaded], steps: Sequence[Step]
) -> dict[str, Any]:
    described = [
        {"action": step.action, "seed": seed, "scores": step.scores, "best": step.best}
        | {"image": BEST.format(number)}
        for number, (step, seed) in enumerate(zip(steps, config.seeds, strict=True), 1)
    ]
    return {
        "source": source,
        **{task: {"name": name, "fingerprint": what.fingerprint} for task, (name, what, _) in models.items()},
        "codec": models["world"].model.codec_id,
        "num_samples": config.num_samples,
        "temperature": config.temperature,
        "steps": described,
        "sheet": SHEET,
    }


def _claim(folder: Path) -> None:
    """Make the folder. Raises ConfigError where it cannot be, or holds what no imagination left there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = any(folder.iterdir()) and not (folder / RECORD).is_file()
    except OSError as error:
        raise ConfigError(f"out {folder} cannot be a folder: {error.strerror}; name another") from error
    if foreign:
        raise ConfigError(f"out {folder} holds other files; name a new folder, or one of an imagination")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"out {folder} cannot be written; name another folder")


def _write(folder: Path, imagination: Imagination) -> None:
    for earlier in folder.glob(BEST.format("*")):
        earlier.unlink()
    for number, step in enumerate(imagination.steps, 1):
        step.samples[step.best].save(folder / BEST.format(number))
    contact_sheet(imagination.steps).save(folder / SHEET)
    (folder / RECORD).write_text(json.dumps(imagination.record, indent=2) + "\n")
