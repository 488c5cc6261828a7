"""Configuration of the trainings of codecs, dynamics models and world models.

It has everything that decides the weights, and how the work is distributed. A run's folder is bound to all of
it, because a resumed run must continue the interrupted one.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kinescribe.schemas.annotation import Asking
from kinescribe.schemas.config import Precision
from kinescribe.schemas.config_base import Config, NotNegative, Positive
from kinescribe.schemas.prompts import CLASS

Share = Annotated[float, Field(ge=0, le=1)]


class Optimization(Config):
    """AdamW with a cosine schedule and warm-up (arXiv:2506.06006), or Muon for matrices and AdamW for the
    rest."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    muon_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """The rate of Muon (Jordan 2024) for the layers' matrices; None uses AdamW for them."""
    warmup_steps: NotNegative = 200
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Applied to matrices; gains, biases and other vectors are not decayed."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    clip_norm: Annotated[float, Field(gt=0)] = 1.0


class Engine(Config):
    """How a step is distributed over workers and memory. The ZeRO stage of DeepSpeed shards the state."""

    workers: Positive = 1
    accelerator: Literal["auto", "gpu"] = "auto"
    """With `gpu`, workers wait for machines with a GPU; `auto` uses what the cluster has at the start."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    precision: Precision = "auto"
    """Precision of the arithmetic; weights stay in float32. `auto` is bf16 if the hardware multiplies it."""
    max_failures: NotNegative = 2
    """How often lost workers are restarted before the run fails."""
    min_workers: Positive | None = None
    """How many workers suffice to continue if the others have no machine to restart on; by default all
    wait."""

    @model_validator(mode="after")
    def _fewer_can_take_over(self) -> Self:
        if self.min_workers is not None and (self.zero_stage or self.min_workers > self.workers):
            # Only the same rank of the same number of workers can read a shard of a checkpoint.
            raise ValueError(
                "engine.min_workers needs engine.zero_stage 0 and at most engine.workers, "
                f"got {self.min_workers} with zero_stage {self.zero_stage} and workers {self.workers}; "
                "change one of them, or leave min_workers out"
            )
        return self


class TrainConfig(Config):
    """The options that all trainings share. `out` is the folder of the run's state and its export."""

    data: Annotated[tuple[str, ...], Field(min_length=1)]
    out: str
    held_out: tuple[str, ...] = ()
    """Datasets to measure the loss on, which are never trained on."""
    held_out_samples: Positive = 1024
    steps: Positive | None = None
    epochs: Positive | None = None
    """How often every sample is used, instead of `steps`."""
    batch: Positive = 64
    """Samples per step, over all workers."""
    micro_batch: Positive | None = None
    """Samples that a worker computes at once; by default its whole share of the batch."""
    seed: NotNegative = 0
    optimization: Optimization = Optimization()
    engine: Engine = Engine()
    log_every: Positive = 20
    evaluate_every: Positive = 1000
    checkpoint_every: Positive = 500
    keep_checkpoints: Positive = 2

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            got = "neither" if self.steps is None else f"steps={self.steps} and epochs={self.epochs}"
            raise ValueError(f"give one of steps and epochs, e.g. steps=1000; got {got}")
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        size = self.rank_micro_batch * self.engine.workers
        if self.batch % size:
            raise ValueError(
                f"batch must be a multiple of engine.workers × micro_batch = {size}, got {self.batch}; "
                f"e.g. batch={-(-self.batch // size) * size}"
            )
        return self

    @model_validator(mode="after")
    def _logs_before_checkpoints(self) -> Self:
        for name in ("evaluate_every", "checkpoint_every"):
            if (value := getattr(self, name)) % self.log_every:
                # Otherwise a resumed run would log means over other steps than an undisturbed one.
                raise ValueError(
                    f"{name} must be a multiple of log_every = {self.log_every}, got {value}; "
                    f"e.g. {name}={-(-value // self.log_every) * self.log_every}"
                )
        return self

    @model_validator(mode="after")
    def _muon_sees_whole_gradients(self) -> Self:
        if self.optimization.muon_learning_rate is not None and self.engine.zero_stage:
            # The other stages of DeepSpeed clip the orthogonal updates of Muon, which shrinks every step.
            raise ValueError(
                f"optimization.muon_learning_rate needs engine.zero_stage 0, got {self.engine.zero_stage}; "
                "set engine.zero_stage=0, or leave muon_learning_rate out"
            )
        return self

    @property
    def rank_micro_batch(self) -> int:
        """Samples that one worker computes at once."""
        return self.micro_batch or max(1, self.batch // self.engine.workers)

    def num_steps(self, num_samples: int) -> int:
        """The number of steps of a run with `num_samples` in its data."""
        return self.steps or math.ceil((self.epochs or 0) * num_samples / self.batch)


class NewCodec(Config):
    """A codec that starts from random weights (`models/initialization.py`)."""

    resolution: Positive = 64
    patch: Positive = 4
    """Side of the square of pixels in one position of the network's input."""
    channels: Annotated[tuple[Positive, ...], Field(min_length=1)] = (64, 128)
    num_codes: Positive = 1024
    dims: Positive = 8


class Codebook(Config):
    """The codebook follows the encoder by moving averages. Unused codes restart from the data."""

    decay: Share = 0.99
    commitment: Annotated[float, Field(ge=0)] = 0.25
    restart_below: Annotated[float, Field(ge=0)] = 0.05
    """Codes with a moving average below this, in tokens per micro-batch, are restarted."""


class CodecTraining(TrainConfig):
    """`kinescribe train codec`: images in, a VQModel out."""

    task: Literal["codec"] = "codec"
    init: str | None = None
    """A codec's folder to continue from, instead of `model`."""
    model: NewCodec = NewCodec()
    codebook: Codebook = Codebook()
    squared_error: Annotated[float, Field(ge=0)] = 1.0
    gradient_error: Annotated[float, Field(ge=0)] = 1.0
    """Weights relative to the absolute error; the second compares differences of neighbouring pixels."""
    crop_scale: Annotated[float, Field(gt=0, le=1)] = 0.7
    """The smallest random crop, as a share of the image's shorter side."""


class NewDecoder(Config):
    """A decoder that starts from random weights, for a given codec (`models/initialization.py`)."""

    codec: str
    vocabulary: Positive = 512
    hidden: Positive = 192
    layers: Positive = 6
    heads: Positive = 6


class Lora(Config):
    """Low-rank adapters instead of full fine-tuning (arXiv:2506.06006)."""

    rank: Positive = 16
    alpha: Positive = 32
    dropout: Share = 0.05


class TokenTraining(TrainConfig):
    """The options that dynamics and world models share."""

    init: str | None = None
    """The name of the model to fine-tune. Give either this or `model`."""
    model: NewDecoder | None = None
    lora: Lora | None = None

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.init is None) == (self.model is None):
            got = "neither" if self.init is None else "both"
            raise ValueError(
                f"give one of init (a model to fine-tune) and model (a new one), got {got}; "
                "e.g. init=embedded"
            )
        return self


class DynamicsTraining(TokenTraining, Asking):
    """`kinescribe train dynamics`: p(action | source, target).

    A chat model as `init` learns from the stored images; the codec of the datasets doesn't matter. Label with
    the question that it was trained on.
    """

    task: Literal["dynamics"] = "dynamics"

    @model_validator(mode="after")
    def _placeholders_have_values(self) -> Self:
        self.require_known({CLASS}, "", "write the rest into the question")
        return self


class Mix(Config):
    """Shares of a world model's samples: rows with a given action, and rows that a model labelled."""

    supervised: Share
    labelled: Share

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if abs(self.supervised + self.labelled - 1) > 1e-6:
            raise ValueError(
                f"mix: the shares must sum to 1, got {self.supervised} + {self.labelled}; "
                "e.g. supervised=0.5,labelled=0.5"
            )
        return self


class WorldTraining(TokenTraining):
    """`kinescribe train world`: p(target | source, action), weighted by importance (arXiv:2506.06006).

    An image editor as `init` learns from the stored images; the codec of the datasets doesn't matter.
    """

    task: Literal["world"] = "world"
    weights: Literal["l2", "none"] = "l2"
    """Weights of the target's tokens: the squared L2 distances of the recognition model, or 1."""
    new_image_head: bool = False
    """Initialise the head's rows of image codes from their embeddings, for an `init` that never drew
    images."""
    importance_floor: Share = 0.0
    """The least weight of a token; the mean weight in an image is 1."""
    select: Annotated[str, Field(min_length=1)] | None = None
    """A selection that `kinescribe curate` wrote. Datasets that it doesn't cover are used whole."""
    mix: Mix | None = None
    """None uses all rows alike."""

    @property
    def floor(self) -> float | None:
        """The least weight of a target token; None if all have weight 1."""
        return self.importance_floor if self.weights == "l2" else None


TRAININGS: dict[str, type[TrainConfig]] = {
    "codec": CodecTraining,
    "dynamics": DynamicsTraining,
    "world": WorldTraining,
}
