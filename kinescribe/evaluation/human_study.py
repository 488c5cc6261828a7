"""A study with human raters as one HTML page: for each case, the outputs of all models side by side, unnamed.

Raters pick the best and the worst by each criterion (the human evaluation of arXiv:2506.06006). The page
shuffles the outputs for each rater. Which model made which output is in the key, a file that the person who
runs the study keeps.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.random import Generator
from PIL import Image
from pydantic import BaseModel, FiniteFloat, ValidationError, model_validator

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
"""Each is picked by a digit key."""
LONGER_SIDE = 512


class Choice(BaseModel):
    """One output in a question: its model, and a judge's score if there is one."""

    model: str
    judge: FiniteFloat | None


class Key(BaseModel):
    """What the page doesn't say: the choices of each question, by the names that the page gives them."""

    study: str
    models: list[str]
    questions: dict[str, dict[str, Choice]]

    @model_validator(mode="after")
    def _each_question_has_each_model(self) -> Self:
        models = sorted(self.models)
        if any(models != sorted(c.model for c in choices.values()) for choices in self.questions.values()):
            raise ValueError("each question must have one choice of each model")
        return self

    def same_answers(self, other: Key) -> bool:
        """Whether the answers to one study mean the same in the other; judges' scores may differ."""
        return self.study == other.study and self._models() == other._models()

    def _models(self) -> dict[str, dict[str, str]]:
        return {
            question: {name: choice.model for name, choice in choices.items()}
            for question, choices in self.questions.items()
        }


def build_study(
    folders: Mapping[str, Path], out: str, num: int | None, seed: int, warn: Callable[[str], object]
) -> str:
    """Write the page of `num` cases (None: all), spread over the tasks, to `out`. Returns its key's path.

    `folders` are the models' outputs by name. `warn` is called if some cases lack an output of some model.
    The same outputs and seed give the same study, whatever a judge's scores are.

    Raises InputError, StoreError and ConfigError, also if the page or its key would replace another study's.
    """
    _require_models(folders)
    require_page(out)
    outputs = {name: read_outputs(folder) for name, folder in folders.items()}
    cases = _common(outputs, warn)
    rng = np.random.default_rng(seed)
    questions, choices = list[dict[str, object]](), dict[str, dict[str, Choice]]()
    for number, case in enumerate(_chosen(cases, len(cases) if num is None else num, rng)):
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
    page = {"id": study, "criteria": CRITERIA, "questions": questions}
    html = render("human_study", package=__package__ or "kinescribe.evaluation", study=page)
    # The key goes first: a page without its key could not be scored.
    beside = _write_key(out, key)
    write_page(out, html)
    return beside


def _require_models(folders: Mapping[str, Path]) -> None:
    """Raises ConfigError for a wrong number of models, or one folder under two names."""
    if not 2 <= len(folders) <= MAX_MODELS:
        raise ConfigError(
            f"a study compares 2 to {MAX_MODELS} models, got {len(folders)}; give --model for each"
        )
    by_folder = dict[Path, str]()
    for name, folder in folders.items():
        if other := by_folder.get(folder.resolve()):
            raise ConfigError(f"--model {other} and {name} are the same folder, {folder}; give each its own")
        by_folder[folder.resolve()] = name


def _write_key(out: str, key: Key) -> str:
    """Write the key beside the page; an existing key is replaced only by one for the same pages."""
    beside = f"{out.removesuffix('.html')}.key.json"
    data = f"{key.model_dump_json(indent=2)}\n".encode()
    if objects.exists(beside):
        try:
            before = Key.model_validate_json(objects.read_bytes(beside))
        except ValidationError:
            before = None
        if before is None or not before.same_answers(key):
            raise ConfigError(
                f"--out {out}: {beside} is another study's key, without which its pages can't be scored; "
                "name another page, or move the key away"
            )
        objects.replace(beside, data)
        return beside
    if objects.exists(out):
        raise ConfigError(
            f"--out {out}: this file exists and has no key beside it; name another, or remove it"
        )
    if not objects.create(beside, data):
        raise ConfigError(f"--out {out}: {beside} was written by another process; name another page")
    return beside


def read_key(file: Path) -> Key:
    """Read the key that `build_study` wrote. Raises InputError."""
    try:
        return Key.model_validate_json(objects.read_list(str(file)))
    except OSError as error:
        raise InputError(f"--key {file} cannot be read: {error.strerror}; name the study's key") from error
    except ValidationError as error:
        raise InputError(
            f"--key {file} is not the key of a study; name the file that `human build` wrote"
        ) from error


def _common(outputs: Mapping[str, Mapping[str, Output]], warn: Callable[[str], object]) -> list[Output]:
    """The first model's outputs of the cases that all models have. Raises InputError."""
    first = next(iter(outputs.values()))
    ids = [id for id in first if all(id in of_model for of_model in outputs.values())]
    every = {id for of_model in outputs.values() for id in of_model}
    if not ids:
        raise InputError(f"{' and '.join(outputs)} have no case in common; compare the ids in outputs.json")
    if len(ids) < len(every):
        warn(f"{len(every) - len(ids)} of {len(every)} cases are left out: some model has no output for them")
    for id, (name, of_model) in itertools.product(ids, outputs.items()):
        if of_model[id].instruction != first[id].instruction:
            raise InputError(
                f"{name}: {id} has another instruction than in {next(iter(outputs))}; correct the ids"
            )
    return [first[id] for id in ids]


def _chosen(cases: Sequence[Output], num: int, rng: Generator) -> list[Output]:
    """`num` random cases, taken from each task in turn."""
    by_task: defaultdict[str, list[Output]] = defaultdict(list)
    for place in rng.permutation(len(cases)):
        by_task[cases[place].task].append(cases[place])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*by_task.values()))
    return [case for case in turns if case is not None][:num]


def _image(file: Path) -> str:
    """Re-encoded, so that size, format and metadata don't tell the model."""
    image = read_source_image(str(file))
    image.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.LANCZOS)
    return data_uri(image)
