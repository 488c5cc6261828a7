"""The human study as one page: of each case the outputs of all models, side by side and without their names.

A rater picks the best and the worst for each criterion (METHOD §5). The page shuffles for each rater and
knows no model: which output is whose stands in the key, a file that stays with who runs the study.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image
from pydantic import BaseModel, ValidationError

from kinescribe.evaluation.model_outputs import Output, read_outputs
from kinescribe.media.source_image import read_source_image
from kinescribe.reports.heatmap import data_uri
from kinescribe.reports.page import render, require_page, write_page
from kinescribe.schemas.errors import ConfigError, InputError
from kinescribe.storage import objects

CRITERIA = {
    "realism": "Looks like a real picture, with nothing broken or smeared",
    "action": "Shows what the sentence asks for",
    "preservation": "Leaves everything else as it was",
}
MAX_MODELS = 9
"""Each has a digit on the keyboard."""
LONGER_SIDE = 512


class Choice(BaseModel):
    """One output among a question's: whose it is, and what a judge gave it, if one was asked."""

    model: str
    judge: float | None


class Key(BaseModel):
    """What the page doesn't say: of each question, the choices by the names that the page gives them."""

    study: str
    models: list[str]
    questions: dict[str, dict[str, Choice]]


def build_study(
    folders: Mapping[str, Path], out: str, num: int | None, seed: int, warn: Callable[[str], object]
) -> str:
    """Write the page of `num` cases (of each task as many; None: all) to `out`; returns where its key lies.

    `folders` are the models' outputs by name. `warn` hears of cases that some model has no output of. The
    same outputs and seed give the same study, whatever a judge said meanwhile. Raises InputError, ConfigError
    and StoreError.
    """
    if not 2 <= len(folders) <= MAX_MODELS:
        raise ConfigError(
            f"a study compares 2 to {MAX_MODELS} models, got {len(folders)}; give --model for each"
        )
    require_page(out)
    outputs = {name: read_outputs(folder) for name, folder in folders.items()}
    cases = _common(outputs, warn)
    rng = np.random.default_rng(seed)
    chosen = _chosen(cases, len(cases) if num is None else num, rng)
    questions, choices = list[dict[str, object]](), dict[str, dict[str, Choice]]()
    for number, case in enumerate(chosen):
        question, order = f"q{number}", [list(folders)[place] for place in rng.permutation(len(folders))]
        made = {f"{question}-{place}": (model, outputs[model][case.id]) for place, model in enumerate(order)}
        choices[question] = {
            name: Choice(model=model, judge=output.judge) for name, (model, output) in made.items()
        }
        options = [
            {"id": name, "image": _image(folders[model] / output.output)}
            for name, (model, output) in made.items()
        ]
        source = _image(next(iter(folders.values())) / case.input)
        questions.append({"id": question, "action": case.instruction, "source": source, "options": options})
    study = hashlib.blake2b(repr((CRITERIA, questions)).encode(), digest_size=8).hexdigest()
    key = Key(study=study, models=list(folders), questions=choices)
    write_page(
        out,
        render(
            "human_study",
            package=__package__ or "kinescribe.evaluation",
            study={"id": study, "criteria": CRITERIA, "questions": questions},
        ),
    )
    beside = f"{out.removesuffix('.html')}.key.json"
    objects.replace(beside, f"{key.model_dump_json(indent=2)}\n".encode())
    return beside


def read_key(file: Path) -> Key:
    """The key that `build_study` wrote. Raises InputError."""
    try:
        return Key.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"--key {file} cannot be read: {error.strerror}; name the study's key") from error
    except ValidationError as error:
        raise InputError(
            f"--key {file} is no key of a study; name the file that `human build` wrote"
        ) from error


def _common(outputs: Mapping[str, Mapping[str, Output]], warn: Callable[[str], object]) -> list[Output]:
    """The first model's outputs of the cases that all models have. Raises InputError."""
    first = next(iter(outputs.values()))
    ids = [id for id in first if all(id in of_model for of_model in outputs.values())]
    every = {id for of_model in outputs.values() for id in of_model}
    if not ids:
        raise InputError(f"there is no case that {' and '.join(outputs)} have outputs of; compare their ids")
    if len(ids) < len(every):
        warn(f"{len(every) - len(ids)} of {len(every)} cases are left out: some model has no output of them")
    for id, (name, of_model) in itertools.product(ids, outputs.items()):
        if of_model[id].instruction != first[id].instruction:
            raise InputError(
                f"{name}: the instruction of {id} is not that of {next(iter(outputs))}; mend the ids"
            )
    return [first[id] for id in ids]


def _chosen(cases: Sequence[Output], num: int, rng: Generator) -> list[Output]:
    """`num` cases at random, the tasks taking turns."""
    by_task: defaultdict[str, list[Output]] = defaultdict(list)
    for place in rng.permutation(len(cases)):
        by_task[cases[place].task].append(cases[place])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*by_task.values()))
    return [case for case in turns if case is not None][:num]


def _image(file: Path) -> str:
    """Encoded anew, so that neither size nor format nor what stands in a file tells whose it is."""
    image = read_source_image(str(file))
    image.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.LANCZOS)
    return data_uri(image)
