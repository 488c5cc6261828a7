"""Configuration: one frozen model per job, unknown keys refused, derived values derived.

Read from YAML, then from dotted overrides (`keyframes.min_interval=10`), then from values that are given in
Python. A job's configuration is part of its fingerprint: it holds what changes the rows. `Resources` holds
what only changes the speed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from kinescribe.schemas.actions import in_words
from kinescribe.schemas.annotation import Annotation
from kinescribe.schemas.codes import Fit
from kinescribe.schemas.config_base import AtLeastTwo, Config, NotNegative, Positive
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.prompts import (
    CLASS,
)
from kinescribe.schemas.validation import plain_errors
from kinescribe.schemas.yaml_values import config_values, set_value

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
    """Frames between two key frames."""
    min_interval_s: Seconds = 2.0
    """Seconds between two key frames that are enough, however few frames that is."""
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
    fit: Fit | None = None
    """How the codec sees frames that aren't square, which are stored whole: `crop` to the middle, `pad` with
    bars, or `stretch`. None is what the codec's config.json says, or `crop`."""


QualityColumn = Literal["sharpness", "brightness", "clipping", "bars", "text", "hashes"]


def _in_order(columns: tuple[QualityColumn, ...]) -> tuple[QualityColumn, ...]:
    return tuple(column for column in get_args(QualityColumn) if column in columns)


Quality = Annotated[tuple[QualityColumn, ...], AfterValidator(_in_order)]


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
    quality: Quality = ("sharpness", "brightness", "clipping", "bars", "hashes")
    """What is measured of each pair, for `curate` and `report`. `text`, the share of the picture that writing
    covers, takes 0.1 s a key frame and the package rapidocr."""

    @model_validator(mode="after")
    def _placeholders_have_values(self) -> Self:
        remedy = "carry the manifest's column with --columns"
        self.annotation.require_known({CLASS, *self.columns}, "annotation.", remedy)
        return self

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


Score = Literal["mean", "sum", "contrast"]
Draw = Literal["random", "stratified", "doubtful"]
"""Which rows of a dataset people review."""
MAX_PAIRS = 2000
PageSize = Annotated[int, Field(gt=0, le=MAX_PAIRS)]
"""The number of pairs on a review page, which has all their pictures inside."""


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
    score: Score | Literal["agreement"] = "mean"
    """The action's log-probability per token or as a sum, its contrast per token, or how far a second dataset
    says the same."""
    min_score: float | None = None
    min_precision: Annotated[float, Field(gt=0, le=1)] | None = None
    """The expected precision of the rows that pass; needs a review, whose ratings say it of each score."""
    min_agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    """How far a second dataset says the same. By default 1, or 0 if that is the score."""
    min_probability: float | None = None
    """Of the action among those of `Annotation.vocabulary`. Rows without one are dropped."""
    min_motion: float | None = None
    max_motion: float | None = None
    """In the unit of `KeyFrames.min_motion`. With either bound, rows without a motion are dropped."""
    min_sharpness: float | None = None
    min_brightness: float | None = None
    max_brightness: float | None = None
    max_clipping: float | None = None
    max_bars: float | None = None
    max_text: float | None = None
    """What `LabelConfig.quality` measured. With a bound, rows that were not measured are dropped."""
    duplicates: Literal["keep", "drop", "near"] = "keep"
    """`drop` keeps only the best of the triplets that have the same action and clip; `near` the best of those
    that show the same: copies of a clip, also with another codec, size or mirrored, or cropped a little."""

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
    def _bounds_are_ranges(self) -> Self:
        for name in ("motion", "brightness"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{name} must be at most max_{name}, got {low} and {high}")
        return self


class ImagineConfig(Config):
    """Settings of `kinescribe.imagine` (inference-time verification in arXiv:2506.06006)."""

    world: str
    dynamics: str = "embedded"
    actions: Annotated[tuple[Annotated[str, AfterValidator(in_words)], ...], Field(min_length=1)]
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
    concurrency: Positive = 32
    """Requests that each label worker sends at once to a model on a server."""


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
            set_value(merged, key, value)
    with plain_errors(kind, also):
        return kind.model_validate(merged)
