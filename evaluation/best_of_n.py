"""Inference-time verification (METHOD §4): imagine N targets, keep the one the dynamics model believes most.

Works on codes alone; knows nothing of images or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.token_vlm import TokenVLM
from models.tokens import Codes, CodeTriplet
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


def require_one_codec(world: TokenVLM, dynamics: TokenVLM | None) -> None:
    """Raises ModelError where the two models' codes are not of one codec."""
    if dynamics is not None and dynamics.codec_id != world.codec_id:
        raise ModelError(
            f"the world model's codes are of {world.codec_id}, the dynamics model's of {dynamics.codec_id}; "
            "give two that were trained with one codec"
        )


def imagine_best(
    world: TokenVLM,
    dynamics: TokenVLM | None,
    source_codes: Codes,
    action: str,
    num_samples: int,
    seed: int,
    temperature: float = 1.0,
) -> Imagined:
    """Sample targets from the world model and score each with the dynamics model, both on one codec's codes.

    Sample i is the same whatever `num_samples` is. Without a dynamics model all score 0, so that the first is
    kept.
    """
    codes_NL = world.imagine(source_codes, action, num_samples, seed, temperature)
    if dynamics is None:
        return Imagined(codes_NL, np.zeros(num_samples))
    assert world.codec_id == dynamics.codec_id, (world.codec_id, dynamics.codec_id)
    triplets = [CodeTriplet(source_codes, codes_L, action) for codes_L in codes_NL]
    return Imagined(codes_NL, np.asarray(dynamics.score(triplets), np.float64))


def roll_out(
    world: TokenVLM,
    dynamics: TokenVLM,
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
