"""Configuration: one frozen model per job, unknown keys refused, derived values derived.

Read from YAML, then from dotted overrides (`keyframes.min_interval=10`). A job's configuration is
part of its fingerprint: what changes the rows is here, what only changes speed is in `Resources`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from kinescribe.schemas.errors import ConfigError

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Precision = Literal["auto", "bf16", "fp32"]
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2"]
"""As transformers names them; `auto` is its own choice."""


def _folder(path: str) -> str:
    if "://" in path:
        raise ValueError("a root is a folder of this machine, not a URL")
    return os.path.abspath(path)  # noqa: PTH100 (of a text, by its spelling alone)


Roots = tuple[Annotated[str, AfterValidator(_folder)], ...]
"""Folders in which an input's files may lie, beside its own."""


class Config(BaseModel):
    """Frozen, and refuses keys that it doesn't know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DecodeLimits(Config):
    """What a clip may cost before it is rejected as too_large, timeout or out_of_memory."""

    max_pixels: Positive = 4096 * 4096
    max_duration_s: Seconds = 6 * 3600.0
    deadline_s: Seconds = 120.0
    """Wall time that decoding one clip may take."""
    memory_bytes: Positive = 4 << 30


class Limits(DecodeLimits):
    """The limits of clips that may be cut."""

    window_s: Seconds = 60.0
    """Videos longer than this are cut into windows of this length, each a clip of its own."""


class KeyFrames(Config):
    """Selection of frame pairs (METHOD: K_f = 6, I_f = 20)."""

    max_keyframes: Annotated[int, Field(ge=2)] = 6
    min_interval: Positive = 20
    min_motion: Annotated[float, Field(ge=0)] = 0.1
    """Pairs with less motion than this are dropped as static: mean flow over the parts of the picture
    that changed, in pixels at 128 on the longer side. A person moving in a wide shot has about 0.12."""
    cut_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """A shot starts where this much more of the picture is new than in the frames around it."""


class StoredImage(Config):
    """How key frames are stored in the dataset; codes are computed from what is stored."""

    max_side: Positive = 512
    format: Literal["jpeg", "png"] = "jpeg"
    quality: Annotated[int, Field(ge=1, le=100)] = 95


class Annotation(Config):
    """How the dynamics model writes actions."""

    max_new_tokens: Positive = 32
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 is greedy; above 0, samples are drawn with a seed derived from the clip's id."""
    seed: int = 0
    scores: Literal["likelihood", "likelihood,contrast"] = "likelihood"
    """With contrast, three more passes over each pair say how much likelier its action is for it than for the
    pair swapped and the source copied (`DynamicsModel.contrast`)."""


class LabelConfig(Config):
    """`kinescribe label`: everything that the rows of a dataset depend on, beside input and weights."""

    dynamics: str = "embedded"
    codec: str | None = None
    """The model whose codec makes the codes where the dynamics model sees images; None: embedded."""
    precision: Precision = "auto"
    """Of the dynamics model's weights; `auto` follows family and hardware. The codec's are always float32."""
    attention: Attention = "auto"
    """How the dynamics model computes it."""
    limits: Limits = Limits()
    keyframes: KeyFrames = KeyFrames()
    image: StoredImage = StoredImage()
    annotation: Annotation = Annotation()
    clips_per_unit: Positive = 16
    max_reject_rate: Annotated[float, Field(ge=0, le=1)] = 0.5
    roots: Roots = ()

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.limits.window_s > self.limits.max_duration_s:
            raise ValueError(
                f"limits.window_s must be at most limits.max_duration_s, got {self.limits.window_s} "
                f"and {self.limits.max_duration_s}"
            )
        return self


class IngestConfig(Config):
    """`kinescribe ingest`: what rows with given actions depend on, beside input and codec."""

    dynamics: str = "embedded"
    """The model whose codec makes the codes; embedded's, where it sees images."""
    limits: DecodeLimits = DecodeLimits()
    image: StoredImage = StoredImage()
    triplets_per_unit: Positive = 64
    max_reject_rate: Annotated[float, Field(ge=0, le=1)] = 0.5
    roots: Roots = ()


class CurateConfig(Config):
    """`kinescribe curate`: which triplets are chosen (METHOD §2). The filters come first, in this order."""

    top_k: Positive
    by: Literal["action_class", "video", "clip_id", "action"] = "action_class"
    """What the classes are that take turns; rows without one are a class of their own."""
    score: Literal["mean", "sum", "contrast"] = "mean"
    """The action's log-probability, per token or of the whole sentence, or its contrast per token."""
    min_score: float | None = None
    min_motion: float | None = None
    max_motion: float | None = None
    """Motion is that of `KeyFrames.min_motion`; with a bound on it, rows without motion are dropped."""
    duplicates: Literal["keep", "drop"] = "keep"
    """`drop` leaves of the same action within a clip only the one with the best score."""

    @model_validator(mode="after")
    def _motion_is_a_range(self) -> Self:
        low, high = self.min_motion, self.max_motion
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_motion must be at most max_motion, got {low} and {high}")
        return self


def _in_words(action: str) -> str:
    if not re.search(r"\w", action):
        raise ValueError("an action says in words what is done")
    return " ".join(action.split())


class ImagineConfig(Config):
    """`kinescribe imagine`: what comes of the actions, one after another (METHOD §3 and §4)."""

    world: str
    dynamics: str = "embedded"
    actions: Annotated[tuple[Annotated[str, AfterValidator(_in_words)], ...], Field(min_length=1)]
    num_samples: Positive = 8
    seed: Annotated[int, Field(ge=0)] = 0
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @property
    def seeds(self) -> range:
        """One for each action."""
        return range(self.seed, self.seed + len(self.actions))


class AuroraConfig(Config):
    """`kinescribe evaluate aurora`: which models imagine, how often, and what measures them."""

    world: str
    dynamics: str | None = None
    """Chooses among `num_samples`."""
    num_samples: Positive = 1
    runs: Positive = 1
    """How often the whole benchmark is imagined, each time with other draws."""
    seed: Annotated[int, Field(ge=0)] = 0
    clip: str | None = None
    dino: str | None = None
    """The models that compare images: folders, or ORG/NAME@COMMIT of a hub."""
    judge: str | None = None
    """MODEL@URL of an OpenAI-compatible server."""

    @model_validator(mode="after")
    def _someone_chooses(self) -> Self:
        if self.num_samples > 1 and self.dynamics is None:
            raise ValueError(f"-n {self.num_samples} needs a model that chooses the best; give --dynamics")
        return self


def _share_or_whole(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise ValueError("above one GPU it must be a whole number")
    return gpus


class Resources(Config):
    """What changes only how fast a job runs; None lets the planner decide from the cluster."""

    decode_workers: Positive | None = None
    label_workers: Positive | None = None
    label_gpus: Annotated[float, Field(gt=0), AfterValidator(_share_or_whole)] | None = None
    """GPUs of each label worker, where its model's size should not decide."""
    micro_batch: Positive | None = None
    """Pairs in one call of the model; by default as many as its hardware has room for, up to a bound."""


AnyConfig = TypeVar("AnyConfig", bound=Config)


def load_config(kind: type[AnyConfig], text: str | None, overrides: Iterable[str] = ()) -> AnyConfig:
    """A `kind` from YAML text and dotted overrides (`a.b=value`, the value read as YAML).

    Raises ConfigError naming each key, its value and what was expected.
    """
    try:
        return kind.model_validate(config_values(text, overrides))
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error


def read_config(path: Path | None) -> str | None:
    """The text of a configuration's file. Raises ConfigError where it cannot be read."""
    if path is None:
        return None
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} cannot be read: {error}; give a YAML file in UTF-8") from error


_NO_VALUE = (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError)
"""What PyYAML raises: of its own for wrong syntax, and Python's where a date or a number is none."""


def config_values(text: str | None, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """What YAML text and overrides say, of whatever kind it is. Raises ConfigError where they say nothing."""
    try:
        values = yaml.safe_load(text) if text else {}
    except RecursionError as error:
        raise ConfigError("the configuration is no YAML that can be read: it is nested too deeply") from error
    except _NO_VALUE as error:
        raise ConfigError(f"the configuration is not YAML that can be read: {error}") from error
    if not isinstance(values or {}, dict):
        raise ConfigError(f"the configuration must be a mapping, got {type(values).__name__}")
    values = values or {}
    for override in overrides:
        _set(values, override)
    return values


def as_override(key: str, value: object) -> str:
    """The override that gives a key this value, which is no YAML yet."""
    # JSON is no YAML to the letter: of its escapes, those of letters beyond U+FFFF are read as two.
    return f"{key}={yaml.safe_dump(value)}"


def _set(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"an override has the form key=value, got {override!r}")
    *parents, leaf = path.split(".")
    section: Any = values
    for key in parents:
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            raise ConfigError(f"{path}: {key} is a value, not a section")
    try:
        section[leaf] = yaml.safe_load(text)
    except (*_NO_VALUE, RecursionError) as error:
        raise ConfigError(f"the value of {path} is not YAML, got {text!r}; quote it") from error


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "configuration"
        if item["type"] == "extra_forbidden":
            lines.append(f"{where}: no such key; remove it or check its spelling")
        else:
            value = "" if isinstance(item["input"], dict) else f", got {item['input']!r:.200}"
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')}{value}")
    return "\n".join(lines)
