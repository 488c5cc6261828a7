"""Configuration: one frozen model per job, unknown keys refused, derived values derived.

Read from YAML, then from dotted overrides (`keyframes.min_interval=10`), then from values that are given in
Python. A job's configuration is part of its fingerprint: it holds what changes the rows. `Resources` holds
what only changes the speed.
"""

from __future__ import annotations

import copy
import os
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.validation import plain_errors

Positive = Annotated[int, Field(gt=0)]
AtLeastTwo = Annotated[int, Field(ge=2)]
Positives = Annotated[Sequence[Positive], Field(min_length=1)]
NotNegative = Annotated[int, Field(ge=0)]
Hours = Annotated[float, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Precision = Literal["auto", "bf16", "fp32"]
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2"]
"""The names that transformers uses; `auto` leaves the choice to it."""


def _folder(path: str) -> str:
    if "://" in path:
        raise ValueError("a root is a folder on this machine, not a URL")
    return os.path.abspath(path)  # noqa: PTH100 (does not follow links)


Roots = tuple[Annotated[str, AfterValidator(_folder)], ...]
"""Further folders that an input's files may be in."""


def _as_text(value: Any) -> Any:
    """A path, or those in a list, as strings."""
    if isinstance(value, list | tuple):
        return [_as_text(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


class Config(BaseModel):
    """A frozen model that refuses unknown keys. A path may be a string or an `os.PathLike`.

    Raises ConfigError that names each wrong key, its value and what was expected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, /, **values: Any) -> None:
        with plain_errors(type(self)):
            super().__init__(**values)

    # Pydantic makes sections without it, so that their errors have the full key.
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]

    @model_validator(mode="before")
    @classmethod
    def _paths_as_text(cls, values: Any) -> Any:
        return {key: _as_text(value) for key, value in values.items()} if isinstance(values, dict) else values


class DecodeLimits(Config):
    """The limits above which a clip is rejected as too_large, timeout or out_of_memory."""

    max_pixels: Positive = 4096 * 4096
    max_duration_s: Seconds = 6 * 3600.0
    deadline_s: Seconds = 120.0
    """Wall time for decoding one clip."""
    memory_bytes: Positive = 4 << 30


class Limits(DecodeLimits):
    """The limits of videos that may be cut into windows."""

    window_s: Seconds = 60.0
    """Longer videos are cut into windows of this length. Each window is a clip."""


class KeyFrames(Config):
    """Selection of key frames and pairs (K_f = 6 and I_f = 20 in arXiv:2506.06006)."""

    max_keyframes: AtLeastTwo = 6
    min_interval: Positive = 20
    min_motion: Annotated[float, Field(ge=0)] = 0.1
    """Pairs with less motion are dropped as static. Motion is the mean optical flow over the changed parts
    of the image, in pixels, with the longer side scaled to 128. A person who moves in a wide shot has about
    0.12."""
    cut_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """A shot starts at a frame if this share of its image is new, beyond the share in the frames around."""


class StoredImage(Config):
    """How key frames are stored in the dataset. Codes are computed from the stored images."""

    max_side: Positive = 512
    format: Literal["jpeg", "png"] = "jpeg"
    quality: Annotated[int, Field(ge=1, le=100)] = 95


class Annotation(Config):
    """How the dynamics model writes actions."""

    max_new_tokens: Positive = 32
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 is greedy. Above 0, actions are sampled with a seed derived from the clip's id."""
    seed: int = 0
    scores: Literal["likelihood", "likelihood,contrast"] = "likelihood"
    """`contrast` adds three passes over each pair. They measure how much likelier the action is for the pair
    than for the swapped pair and for a copy of the source (`DynamicsModel.contrast`)."""


class LabelConfig(Config):
    """Settings of `kinescribe.label`: all that the rows depend on, apart from the input and the weights.

    >>> LabelConfig(dynamics="runs/mine/export", keyframes=KeyFrames(min_interval=10))
    """

    dynamics: str = "embedded"
    """The model that writes the actions: 'embedded', a folder, ORG/NAME@COMMIT or MODEL@URL."""
    codec: str | None = None
    """The model that computes the codes if the dynamics model has no codec. None is embedded."""
    precision: Precision = "auto"
    """Of the dynamics model's weights. `auto` depends on family and hardware. The codec uses float32."""
    attention: Attention = "auto"
    """The attention implementation of the dynamics model."""
    limits: Limits = Limits()
    keyframes: KeyFrames = KeyFrames()
    image: StoredImage = StoredImage()
    annotation: Annotation = Annotation()
    clips_per_unit: Positive = 16
    max_reject_rate: Annotated[float, Field(ge=0, le=1)] = 0.5
    roots: Roots = ()
    columns: tuple[str, ...] = ()
    """Columns of the manifest to carry into the rows as they are."""

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.limits.window_s > self.limits.max_duration_s:
            raise ValueError(
                f"limits.window_s must be at most limits.max_duration_s, got {self.limits.window_s} "
                f"and {self.limits.max_duration_s}"
            )
        return self


class IngestConfig(Config):
    """Settings of `kinescribe.ingest`: all that the rows depend on, apart from the input and the weights."""

    dynamics: str = "embedded"
    """The model whose codec computes the codes. If it has none, the codec of `embedded` does."""
    limits: DecodeLimits = DecodeLimits()
    image: StoredImage = StoredImage()
    triplets_per_unit: Positive = 64
    max_reject_rate: Annotated[float, Field(ge=0, le=1)] = 0.5
    roots: Roots = ()


class CurateConfig(Config):
    """Settings of `kinescribe.curate` (Algorithm 1 of arXiv:2506.06006). The filters come first."""

    model_config = ConfigDict(serialize_by_alias=True)

    top_k: Positive
    stratify_by: Annotated[
        Literal["action_class", "video", "clip_id", "action"],
        # Selections and the datasets made of them record the old name, and must stay the same.
        Field(serialization_alias="by"),
    ] = "action_class"
    """The column of classes, which take turns. Rows without a class form one class."""
    score: Literal["mean", "sum", "contrast"] = "mean"
    """The action's log-probability per token or as a sum, or its contrast per token."""
    min_score: float | None = None
    min_motion: float | None = None
    max_motion: float | None = None
    """In the unit of `KeyFrames.min_motion`. With either bound, rows without a motion are dropped."""
    duplicates: Literal["keep", "drop"] = "keep"
    """`drop` keeps only the best of the triplets that have the same action and clip."""

    @model_validator(mode="before")
    @classmethod
    def _old_name(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "by" not in values or "stratify_by" in values:
            return values
        warnings.warn(
            "by is now stratify_by; the next version drops the old name", FutureWarning, stacklevel=2
        )
        return {"stratify_by" if key == "by" else key: value for key, value in values.items()}

    @model_validator(mode="after")
    def _motion_is_a_range(self) -> Self:
        low, high = self.min_motion, self.max_motion
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_motion must be at most max_motion, got {low} and {high}")
        return self


def _in_words(action: str) -> str:
    if not re.search(r"\w", action):
        raise ValueError("an action must contain words")
    return " ".join(action.split())


class ImagineConfig(Config):
    """Settings of `kinescribe.imagine` (inference-time verification in arXiv:2506.06006)."""

    world: str
    dynamics: str = "embedded"
    actions: Annotated[tuple[Annotated[str, AfterValidator(_in_words)], ...], Field(min_length=1)]
    num_samples: Positive = 8
    seed: NotNegative = 0
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @property
    def seeds(self) -> range:
        """A seed for each action."""
        return range(self.seed, self.seed + len(self.actions))


def require_chooser(num_samples: int, dynamics: object) -> None:
    """Raises ConfigError if there are several samples, and no dynamics model."""
    if num_samples > 1 and dynamics is None:
        raise ConfigError(f"{num_samples} samples need a model that chooses the best; give dynamics")


class AuroraConfig(Config):
    """Settings of `kinescribe evaluate aurora`: the models, the number of runs, the metrics."""

    world: str
    dynamics: str | None = None
    """Chooses the best of `num_samples`."""
    num_samples: Positive = 1
    runs: Positive = 1
    """How often the whole benchmark is run, each time with other seeds."""
    seed: NotNegative = 0
    clip: str | None = None
    dino: str | None = None
    """Models that compare images: folders, or ORG/NAME@COMMIT of a hub."""
    judge: str | None = None
    """MODEL@URL of an OpenAI-compatible server."""

    @model_validator(mode="after")
    def _someone_chooses(self) -> Self:
        require_chooser(self.num_samples, self.dynamics)
        return self


def _share_or_whole(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise ValueError("above one GPU it must be a whole number")
    return gpus


class Resources(Config):
    """How a job uses the machines. It changes only the speed; None lets the planner decide.

    >>> Resources(decode_workers=4, label_gpus=0.5)
    """

    decode_workers: Positive | None = None
    label_workers: Positive | None = None
    label_gpus: Annotated[float, Field(gt=0), AfterValidator(_share_or_whole)] | None = None
    """GPUs of each label worker, instead of a number derived from the model's size."""
    micro_batch: Positive | None = None
    """Pairs in one call of the model. By default as many as fit, up to a bound."""


AnyConfig = TypeVar("AnyConfig", bound=Config)


def load_config(
    kind: type[AnyConfig],
    text: str | None = None,
    overrides: Iterable[str] = (),
    values: Mapping[str, object] | None = None,
    also: Collection[str] = (),
) -> AnyConfig:
    """A `kind` from YAML text, then dotted overrides (`a.b=value`, with YAML as value), then values by key.

    Keys are dotted. A value of None counts as not given. Raises ConfigError that names each wrong key, its
    value and what was expected; for an unknown key it suggests a known one, or a name in `also`.
    """
    merged = config_values(text, overrides)
    for key, value in (values or {}).items():
        if value is not None:
            _set(merged, key, value)
    with plain_errors(kind, also):
        return kind.model_validate(merged)


def read_config(path: Path | None) -> str | None:
    """The text of a configuration file. Raises ConfigError if it cannot be read."""
    if path is None:
        return None
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} cannot be read: {error}; give a YAML file in UTF-8") from error


_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError)
"""What PyYAML raises: its own errors for wrong syntax, Python's for impossible dates and numbers."""


def config_values(text: str | None, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The values in YAML text and overrides, unchecked. Raises ConfigError if they can't be parsed."""
    try:
        values = yaml.safe_load(text) if text else {}
    except RecursionError as error:
        raise ConfigError("the configuration is nested too deeply to be read as YAML") from error
    except _YAML_ERRORS as error:
        raise ConfigError(f"the configuration cannot be read as YAML: {error}") from error
    if not isinstance(values or {}, dict):
        raise ConfigError(f"the configuration must be a mapping, got {type(values).__name__}")
    values = values or {}
    for override in overrides:
        _set(values, *_parse_override(override))
    return values


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"an override has the form key=value, got {override!r}")
    try:
        return key, yaml.safe_load(text)
    except (*_YAML_ERRORS, RecursionError) as error:
        raise ConfigError(f"the value of {key} is not YAML, got {text!r}; quote it") from error


def _set(values: dict[str, Any], path: str, value: object) -> None:
    """Set a value by its dotted key; sections are made as needed, and replaced values are not changed."""
    *parents, leaf = path.split(".")
    section: Any = values
    for key in parents:
        section[key] = copy.copy(section.get(key, {}))
        section = section[key]
        if not isinstance(section, dict):
            raise ConfigError(f"{path}: {key} is a value, not a section")
    section[leaf] = value
