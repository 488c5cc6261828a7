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


class Imagined(NamedTuple):
    """N imagined targets of one source and action."""

    codes_NL: NDArray[np.uint16]
    scores_N: NDArray[np.float64]
    """log p(action | source, target) of the dynamics model, summed over the action's tokens."""

    @property
    def best(self) -> int:
        """The sample with the highest score; the first of equals."""
        return int(self.scores_N.argmax())


def imagine_best(
    world: TokenVLM,
    dynamics: TokenVLM,
    source_codes: Codes,
    action: str,
    num_samples: int,
    seed: int,
    temperature: float = 1.0,
) -> Imagined:
    """Sample targets from the world model and score each with the dynamics model, both on one codec's codes.

    Sample i is the same whatever `num_samples` is.
    """
    assert world.codec_id == dynamics.codec_id, (world.codec_id, dynamics.codec_id)
    codes_NL = world.imagine(source_codes, action, num_samples, seed, temperature)
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
