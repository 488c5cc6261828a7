"""The run that a dataset folder is bound to, in `run.json`.

The file is created once and never changes, so another driver, or the same one a week later, either continues
exactly this run or is refused. Knows no plan, rows or outcomes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from kinescribe.schemas.clips import ID, stable_id
from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.likelihoods import Histogram
from kinescribe.storage import listing, objects, uri
from kinescribe.storage.credentials import redact

RUN = "run.json"
ESTIMATE = "estimate.json"
ABSENT = "(absent)"
ANOTHER_INPUT = (
    "the input: its files, classes, windows or their order are not those that this folder was begun with"
)
NO_EFFECT = ("max_reject_rate", "roots")
"""Configuration that changes no row: it may differ when a run is resumed."""

OPTIONAL = (
    "config.columns",
    "config.quality",
    "config.image.fit",
    "config.annotation.question",
    "config.annotation.system",
    "config.annotation.examples",
    "config.annotation.context_frames",
    "config.examples",
    "config.context_frames",
    "config.annotation.vocabulary",
    "config.annotation.top_p",
    "config.annotation.top_k",
    "config.annotation.repetition_penalty",
)
"""Configuration that older versions do not have: it is left out while it is empty."""


MAX_BYTES = 16 << 20
Id = Annotated[str, Field(pattern=ID)]
Text = Annotated[str, Field(max_length=1000)]
Grid = Annotated[list[Annotated[int, Field(ge=0, le=1024)]], Field(min_length=2, max_length=2)]
"""A training run, which makes no codes, has none: 0×0."""
MODELS = "models."
"""What the keys of an identity begin with that hold the fingerprints of its models."""
_FINGERPRINTS = TypeAdapter(dict[str, Text])


class RunRecord(TypedDict):
    """`run.json`, which was checked when it was read."""

    version: str
    fingerprint: str
    identity: dict[str, Any]
    likelihoods: Histogram | None
    """Of the model on data like its training data, if its card says so."""


class _Identity(BaseModel, strict=True):
    """What is in every run's identity, besides the configuration and the models."""

    plan: Text
    codec_id: Annotated[Text, Field(alias="codec.id")]
    codec_grid: Annotated[Grid, Field(alias="codec.grid")]


class _Record(BaseModel, strict=True):
    """`run.json`."""

    version: Text
    fingerprint: Id
    identity: dict[str, Any]
    likelihoods: Annotated[Histogram | None, Field(strict=False)] = None


@dataclass(frozen=True)
class Run:
    """Everything that the rows of a dataset are a function of.

    `models` maps a role (`dynamics`, …) to the fingerprint of the weights; `plan` is the digest of the
    clips; `grid` is the codec's (height, width) in tokens. `version` and `likelihoods`, which are the model's
    on data like its training data, are recorded but not compared.
    """

    version: str
    config: Mapping[str, Any]
    models: Mapping[str, str]
    codec_id: str
    grid: tuple[int, int]
    plan: str
    likelihoods: Histogram | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What a run that resumes this one must have in common with it, by dotted key; no secrets."""
        config = {key: value for key, value in self.config.items() if key not in NO_EFFECT}
        codec = {"id": self.codec_id, "grid": list(self.grid)}
        parts = {"config": config, "models": self.models, "codec": codec, "plan": self.plan}
        values = {key: value for key, value in _flat(parts) if value or key not in OPTIONAL}
        return json.loads(json.dumps(values))

    @property
    def fingerprint(self) -> str:
        """A hash of the identity."""
        return stable_id(json.dumps(self.identity, sort_keys=True))


def bind(dataset: str, run: Run) -> None:
    """Bind the folder to this run, or make sure that it is.

    Raises DatasetError if the folder belongs to another run, with each difference, or holds other data;
    StoreError if it cannot be written.
    """
    require_own(dataset, run)
    record: dict[str, Any] = {"version": run.version, "fingerprint": run.fingerprint}
    record["identity"] = run.identity
    if run.likelihoods is not None:
        record["likelihoods"] = run.likelihoods
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if not objects.create(uri.join(dataset, RUN), text.encode(), aside=uri.join(dataset, ".tmp")):
        require_own(dataset, run)  # another driver may have been first


def require_own(dataset: str, run: Run) -> None:
    """Raises DatasetError as `bind` does; writes nothing, and accepts a folder without a run."""
    require_unclaimed(dataset)
    if not objects.exists(uri.join(dataset, RUN)):
        return
    changes = _differences(read_run(dataset)["identity"], run.identity)
    if changes:
        raise DatasetError(
            f"{dataset} belongs to another run; what differs (there → now):\n  "
            + "\n  ".join(changes)
            + "\nchoose another output folder, or run with the input, configuration and models of that run"
        )


def require_unclaimed(dataset: str) -> None:
    """Raises DatasetError if the folder has no run, but files that a dataset would mix with or replace."""
    if objects.exists(uri.join(dataset, RUN)):
        return
    if any(listing.list_files(uri.join(dataset, "data"))):
        raise DatasetError(f"{dataset} contains a data folder but no {RUN}; choose an empty folder")
    if objects.exists(uri.join(dataset, "README.md")):  # the dataset's card would replace it
        raise DatasetError(f"{dataset} contains a README.md but no {RUN}; choose an empty folder")


def read_run(dataset: str) -> RunRecord:
    """`run.json`. Raises DatasetError if it is missing or damaged."""
    target = uri.join(dataset, RUN)
    try:
        text = objects.read_bytes(target, MAX_BYTES)
    except FileNotFoundError as error:
        raise not_a_dataset(dataset, RUN) from error
    try:
        record = _Record.model_validate_json(text)
        _Identity.model_validate(record.identity)
        _FINGERPRINTS.validate_python(fingerprints(record.identity), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DatasetError(
            f"{target} is damaged ({place}: {first['msg']}); restore it, or choose another folder"
        ) from error
    return RunRecord(
        version=record.version,
        fingerprint=record.fingerprint,
        identity=record.identity,
        likelihoods=record.likelihoods,
    )


def fingerprints(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's identity says of its models, by dotted key."""
    return {key: value for key, value in identity.items() if key.startswith(MODELS)}


def not_a_dataset(dataset: str, missing: str) -> DatasetError:
    """The error for a folder without this object: no dataset, or a planned run that has not begun."""
    if objects.exists(uri.join(dataset, ESTIMATE)):
        return DatasetError(
            f"{dataset} contains only the estimate of a run that has not begun; start it by "
            f"`kinescribe label` with the same input and options and `--out {dataset}`"
        )
    return DatasetError(
        f"{dataset} is not a Kinescribe dataset: it has no {missing}; name the folder that `label` or "
        "`ingest` wrote"
    )


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = sorted(there.keys() | now.keys())
    return [
        ANOTHER_INPUT if key == "plan" else f"{key}: {there.get(key, ABSENT)} → {now.get(key, ABSENT)}"
        for key in keys
        if there.get(key, ...) != now.get(key, ...)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", redact(value) if isinstance(value, str) else value
