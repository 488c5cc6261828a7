"""Inference-time verification (METHOD §4): imagine N targets, keep the one the dynamics model believes most.

The world model draws codes; the dynamics model sees them, or what they are decoded to. Knows no files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.codec import ImageCodec
from models.dynamics import DynamicsModel
from models.token_vlm import TokenVLM
from models.tokens import Codes, Triplet
from schemas.errors import ModelError


class Imagined(NamedTuple):
    """N imagined targets of one source and action."""

    codes_NL: NDArray[np.uint16]
    scores_N: NDArray[np.float64]
    """log p(action | source, target) of the dynamics model, summed over tokens; 0 without such a model."""

    @property
    def best(self) -> int:
        """The sample with the highest score; the first of equals."""
        return int(self.scores_N.argmax())


def require_one_codec(world: TokenVLM, dynamics: DynamicsModel[Any] | None) -> None:
    """Raises ModelError where the codes that the two models see are not of one codec."""
    if dynamics is not None and dynamics.codec_id not in (None, world.codec_id):
        raise ModelError(
            f"the world model's codes are of {world.codec_id}, the dynamics model's of {dynamics.codec_id}; "
            "give two that were trained with one codec"
        )


def imagine_best(
    world: TokenVLM,
    dynamics: DynamicsModel[Any] | None,
    source_codes: Codes,
    action: str,
    num_samples: int,
    seed: int,
    temperature: float = 1.0,
) -> Imagined:
    """Sample targets from the world model and score each with the dynamics model.

    Sample i is the same whatever `num_samples` is. Without a dynamics model all score 0, so that the first is
    kept.
    """
    codes_NL = world.imagine(source_codes, action, num_samples, seed, temperature)
    if dynamics is None:
        return Imagined(codes_NL, np.zeros(num_samples))
    source, *targets = (_seen(dynamics, world.codec, codes_L) for codes_L in (source_codes, *codes_NL))
    triplets = [Triplet(source, target, action) for target in targets]
    return Imagined(codes_NL, np.asarray(dynamics.score(triplets), np.float64))


def _seen(dynamics: DynamicsModel[Any], codec: ImageCodec, codes_L: Codes) -> Any:
    def image() -> bytes:
        png = io.BytesIO()
        codec.pictures(codes_L[None])[0].save(png, "PNG")
        return png.getvalue()

    return dynamics.see(codes_L, image)


def roll_out(
    world: TokenVLM,
    dynamics: DynamicsModel[Any],
    source_codes: Codes,
    actions: Sequence[str],
    seeds: Sequence[int],
    num_samples: int,
    temperature: float = 1.0,
) -> Iterator[Imagined]:
    """One action after another, each with its seed: the best target of a step is the source of the next."""
    for action, seed in zip(actions, seeds, strict=True):
        imagined = imagine_best(world, dynamics, source_codes, action, num_samples, seed, temperature)
        yield imagined
        source_codes = imagined.codes_NL[imagined.best]
