"""Imagines the outcome of an action, or of several in turn, and keeps the sample that the dynamics model
prefers.

Reads an image, writes images and a record. `best_of_n.py` samples and chooses.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kinescribe.inference.best_of_n import roll_out
from kinescribe.inference.contact_sheet import Step, contact_sheet
from kinescribe.media.source_image import read_source_image
from kinescribe.models.checkpoint_files import ModelIdentity, family_named, identify
from kinescribe.models.dynamics import ActionModel, DynamicsModel
from kinescribe.models.fitting import fitted, restored
from kinescribe.models.registry import load
from kinescribe.models.tokens import Task
from kinescribe.models.world import WorldModel
from kinescribe.schemas.config import ImagineConfig
from kinescribe.schemas.errors import ConfigError, ModelError
from kinescribe.schemas.rendering import Table
from kinescribe.storage import objects

RECORD, SHEET = "imagined.json", "sheet.png"
SHOWN = 80
"""Length in characters of an action in a message."""
BEST = "best-{}.png"
"""The name of the image of each step, counted from 1."""


class Loaded(NamedTuple):
    """A model with its name and identity."""

    name: str
    identity: ModelIdentity
    model: ActionModel


@dataclass(frozen=True)
class Imagination:
    """The result of `imagine`, step by step."""

    steps: list[Step]
    record: dict[str, Any]
    """Everything needed to repeat it, the scores, and the names of the files, if written."""

    def tables(self, out: Path) -> Iterable[Table]:
        """The best sample of each step, and its file in the folder `out`."""
        yield Table(
            [
                (
                    f"{step['action']}: sample {step['best'] + 1} of {self.record['num_samples']},"
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
    """The outcome of the actions, starting from the image `source` (a path or URL).

    With `out`, the best image of each step, a contact sheet and the record are written to that folder and
    replace an earlier imagination. `warn` is called for actions that are not in a model's vocabulary. Raises
    InputError, ConfigError and ModelError, all before anything is drawn except for scores that aren't finite.
    """
    picture = read_source_image(source)
    earlier = set[str]() if out is None else _claim(out, len(config.actions))
    family_named(config.dynamics).require(config.dynamics, "dynamics")
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
        _write(out, imagination, earlier)
    return imagination


def _load(config: ImagineConfig) -> tuple[WorldModel, DynamicsModel[Any]]:
    """Both models. A model with both roles is loaded once."""
    world = load(config.world, "world")
    if config.dynamics == config.world and isinstance(world, DynamicsModel):
        return world, world
    return world, load(config.dynamics, "dynamics")


def _check_actions(
    actions: Sequence[str], models: Mapping[Task, Loaded], warn: Callable[[str], object]
) -> None:
    for action in actions:
        quoted = repr(shorten(action, SHOWN))
        for task, (name, _, model) in models.items():
            if not model.takes(task, action):
                raise ConfigError(f"the action {quoted} is too long for {task} model {name}; shorten it")
        unfamiliar = {name for name, _, model in models.values() if not model.knows_a_word(action)}
        if unfamiliar:
            warn(
                f"no word of {quoted} is in the vocabulary of {' or '.join(sorted(unfamiliar))}, which sees "
                "the words in pieces: the result may be meaningless"
            )


def _steps(
    picture: Image.Image, config: ImagineConfig, world: WorldModel, dynamics: DynamicsModel[Any]
) -> list[Step]:
    options = (config.actions, config.seeds, config.num_samples, config.temperature)
    seen = partial(restored, size=picture.size, fit=world.fit)
    source, steps = seen(fitted(picture, world.resolution, world.fit)), list[Step]()
    drawn = roll_out(world, dynamics, world.encode(picture), *options)
    for action, imagined in zip(config.actions, drawn, strict=True):
        if not np.isfinite(imagined.scores_N).all():
            raise ModelError(
                f"dynamics model {config.dynamics} returns scores that are not finite; restore it"
            )
        samples = list(map(seen, world.pictures(imagined.targets_N)))
        steps.append(Step(action, source, samples, imagined.scores_N.tolist(), imagined.best))
        source = samples[imagined.best]
    return steps


def _record(
    source: str, config: ImagineConfig, models: Mapping[Task, Loaded], steps: Sequence[Step]
) -> dict[str, Any]:
    step_records = [
        {"action": step.action, "seed": seed, "scores": step.scores, "best": step.best}
        | {"image": BEST.format(number)}
        for number, (step, seed) in enumerate(zip(steps, config.seeds, strict=True), 1)
    ]
    return {
        "source": source,
        **{
            task: {"name": name, "fingerprint": identity.fingerprint}
            for task, (name, identity, _) in models.items()
        },
        "codec": models["world"].model.codec_id,
        "num_samples": config.num_samples,
        "temperature": config.temperature,
        "steps": step_records,
        "sheet": SHEET,
    }


def _claim(folder: Path, num_steps: int) -> Set[str]:
    """Create the folder, and return the names of the files of an earlier imagination in it.

    Raises ConfigError if that fails, or if the folder has other files that would be lost or mixed in.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise ConfigError(f"out {folder} cannot be a folder: {error.strerror}; name another") from error
    earlier = _earlier_files(folder)
    if found and not earlier:
        raise ConfigError(
            f"out {folder} has other files; name a new folder, or one with an earlier imagination"
        )
    written = {RECORD, SHEET, *map(BEST.format, range(1, num_steps + 1))}
    if lost := min(found & written - earlier, default=None):
        raise ConfigError(
            f"out {folder} has a {lost} that the earlier imagination there does not list; name a new folder"
        )
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"out {folder} cannot be written; name another folder")
    return earlier


def _earlier_files(folder: Path) -> Set[str]:
    """The names that the folder's record lists, and its own; none if there is no such record."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
        images = {str(step["image"]) for step in record["steps"]}
        sheet = {str(record["sheet"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()
    # A record may have come with the folder: it must not name any other file for removal.
    return {RECORD, *(sheet & {SHEET}), *(name for name in images if re.fullmatch(BEST.format(r"\d+"), name))}


def _write(folder: Path, imagination: Imagination, earlier: Set[str]) -> None:
    """Replace the earlier files. The record goes first, so that a killed run's images are listed in it."""
    for name in earlier - {RECORD}:
        (folder / name).unlink(missing_ok=True)
    objects.replace(str(folder / RECORD), json.dumps(imagination.record, indent=2).encode() + b"\n")
    for number, step in enumerate(imagination.steps, 1):
        step.samples[step.best].save(folder / BEST.format(number))
    contact_sheet(imagination.steps).save(folder / SHEET)
