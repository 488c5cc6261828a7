"""Configuration of the trainings: the codec's, the dynamics model's, the world model's.

What the weights depend on is here, and so is how the work is spread: a run's folder is bound to all of
it, because a resumed run must continue the one that was interrupted.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kinescribe.schemas.config import Config, Positive, Precision

Share = Annotated[float, Field(ge=0, le=1)]


class Optimization(Config):
    """AdamW under a cosine schedule with warm-up (METHOD §3), or Muon with AdamW for what is no matrix."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    muon_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Of the layers' matrices under Muon (Jordan 2024); None leaves them to AdamW."""
    warmup_steps: Annotated[int, Field(ge=0)] = 200
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """On matrices; gains, biases and other vectors are not decayed."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    clip_norm: Annotated[float, Field(gt=0)] = 1.0


class Engine(Config):
    """How a step is spread over workers and memory; DeepSpeed's ZeRO stage shards the state."""

    workers: Positive = 1
    accelerator: Literal["auto", "gpu"] = "auto"
    """With `gpu`, workers wait for machines with one; `auto` takes what the cluster has at the start."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    precision: Precision = "auto"
    """Of the arithmetic; weights are kept in float32. `auto` is bf16 where the hardware multiplies it."""
    max_failures: Annotated[int, Field(ge=0)] = 2
    """How often lost workers are started again before the run gives up."""
    min_workers: Positive | None = None
    """How few may go on where others are lost and have no machine to start on again; by default all wait."""

    @model_validator(mode="after")
    def _fewer_can_take_over(self) -> Self:
        if self.min_workers is not None and (self.zero_stage or self.min_workers > self.workers):
            # Each worker's shard of a checkpoint is read by a worker of the same rank among as many.
            raise ValueError(
                f"min_workers needs zero_stage 0 and at least as many workers, got {self.min_workers} with "
                f"zero_stage {self.zero_stage} and {self.workers} workers"
            )
        return self


class TrainConfig(Config):
    """What all trainings share. `out` is the folder of the run's state and of its export."""

    data: Annotated[tuple[str, ...], Field(min_length=1)]
    out: str
    held_out: tuple[str, ...] = ()
    """Datasets whose loss is measured and never trained on."""
    held_out_samples: Positive = 1024
    steps: Positive | None = None
    epochs: Positive | None = None
    """How often every sample is seen, instead of `steps`."""
    batch: Positive = 64
    """Samples a step, over all workers."""
    micro_batch: Positive | None = None
    """Samples that a worker computes at once; by default its whole part of the batch."""
    seed: Annotated[int, Field(ge=0)] = 0
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
            raise ValueError(f"give one of steps and epochs, got {got}")
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        size = self.rank_micro_batch * self.engine.workers
        if self.batch % size:
            raise ValueError(
                f"batch must be a multiple of engine.workers × micro_batch = {size}, got {self.batch}"
            )
        return self

    @model_validator(mode="after")
    def _logs_before_checkpoints(self) -> Self:
        for name in ("evaluate_every", "checkpoint_every"):
            if (value := getattr(self, name)) % self.log_every:
                # Else a resumed run would log means over other steps than an undisturbed one.
                raise ValueError(f"{name} must be a multiple of log_every = {self.log_every}, got {value}")
        return self

    @model_validator(mode="after")
    def _muon_sees_whole_gradients(self) -> Self:
        if self.optimization.muon_learning_rate is not None and self.engine.zero_stage:
            # DeepSpeed's other stages clip what Muon has made orthogonal, which shrinks every step.
            raise ValueError(
                f"optimization.muon_learning_rate needs engine.zero_stage 0, got {self.engine.zero_stage}"
            )
        return self

    @property
    def rank_micro_batch(self) -> int:
        """Samples that one worker computes at once."""
        return self.micro_batch or max(1, self.batch // self.engine.workers)

    def num_steps(self, num_samples: int) -> int:
        """How many steps the run has, with that many samples in its data."""
        return self.steps or math.ceil((self.epochs or 0) * num_samples / self.batch)


class NewCodec(Config):
    """A codec that starts from random weights (`models/fresh.py`)."""

    resolution: Positive = 64
    patch: Positive = 4
    """Side of the square of pixels that one position of the network's input holds."""
    channels: Annotated[tuple[Positive, ...], Field(min_length=1)] = (64, 128)
    num_codes: Positive = 1024
    dims: Positive = 8


class Codebook(Config):
    """The codebook follows the encoder by moving averages; codes that fall out of use start again."""

    decay: Share = 0.99
    commitment: Annotated[float, Field(ge=0)] = 0.25
    restart_below: Annotated[float, Field(ge=0)] = 0.05
    """A code used less than this, in tokens a micro-batch on the moving average, is restarted."""


class CodecTraining(TrainConfig):
    """`kinescribe train codec`: images in, a VQModel out."""

    task: Literal["codec"] = "codec"
    init: str | None = None
    """A codec's folder to continue from, instead of `model`."""
    model: NewCodec = NewCodec()
    codebook: Codebook = Codebook()
    squared_error: Annotated[float, Field(ge=0)] = 1.0
    gradient_error: Annotated[float, Field(ge=0)] = 1.0
    """Weights beside the absolute error's 1; the second compares neighbouring pixels' differences."""
    crop_scale: Annotated[float, Field(gt=0, le=1)] = 0.7
    """The smallest random crop, as a share of the image's shorter side."""


class NewDecoder(Config):
    """A decoder that starts from random weights over a given codec (`models/fresh.py`)."""

    codec: str
    vocabulary: Positive = 512
    hidden: Positive = 192
    layers: Positive = 6
    heads: Positive = 6


class Lora(Config):
    """Low-rank adapters instead of full fine-tuning (METHOD §3)."""

    rank: Positive = 16
    alpha: Positive = 32
    dropout: Share = 0.05


class TokenTraining(TrainConfig):
    """What the two fine-tunes of a unified model share: codes and actions in, a TokenVLM out."""

    init: str | None = None
    """The model to fine-tune, a name for `kinescribe.models.registry`; or else give `model`."""
    model: NewDecoder | None = None
    lora: Lora | None = None

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.init is None) == (self.model is None):
            got = "neither" if self.init is None else "both"
            raise ValueError(f"give one of init (a model to fine-tune) and model (a new one), got {got}")
        return self


class DynamicsTraining(TokenTraining):
    """`kinescribe train dynamics`: p(action | source, target).

    A chat model as `init` learns from the stored images, whatever codec the datasets' codes are of.
    """

    task: Literal["dynamics"] = "dynamics"


class Mix(Config):
    """Shares of a world model's samples: rows whose action was given, and rows that a model labelled."""

    supervised: Share
    labelled: Share

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if abs(self.supervised + self.labelled - 1) > 1e-6:
            raise ValueError(
                f"the shares must sum to 1, got {self.supervised} + {self.labelled}; "
                "e.g. supervised=0.5,labelled=0.5"
            )
        return self


class WorldTraining(TokenTraining):
    """`kinescribe train world`: p(target | source, action), weighted by importance (METHOD §3).

    An image editor as `init` learns from the stored images, whatever codec the datasets' importance is of.
    """

    task: Literal["world"] = "world"
    weights: Literal["l2", "none"] = "l2"
    """Of the target's tokens: the recognition model's squared L2 distances, or 1."""
    new_image_head: bool = False
    """Start the head's rows of image codes from their embeddings: for an `init` that never drew images."""
    importance_floor: Share = 0.0
    """The least weight of a token, where an image's tokens weigh 1 on average."""
    select: Annotated[str, Field(min_length=1)] | None = None
    """A selection that `kinescribe curate` wrote; datasets that it doesn't name are taken whole."""
    mix: Mix | None = None
    """None takes every row alike."""

    @property
    def floor(self) -> float | None:
        """Of the weights of a target's tokens; None where all weigh the same."""
        return self.importance_floor if self.weights == "l2" else None


TRAININGS: dict[str, type[TrainConfig]] = {
    "codec": CodecTraining,
    "dynamics": DynamicsTraining,
    "world": WorldTraining,
}
