"""Inference-time verification (arXiv:2506.06006): imagine N targets, keep the one that the dynamics model
prefers.

If both models have the same codec, the dynamics model sees the codes that the world model draws, else the
images. Knows no files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinescribe.models.dynamics import DynamicsModel
from kinescribe.models.tokens import Triplet
from kinescribe.models.world import WorldModel
from kinescribe.schemas.codes import same_network


class Imagined(NamedTuple):
    """N imagined targets of one source and action."""

    targets_N: NDArray[Any]
    """In the form that the world model sees."""
    scores_N: NDArray[np.float64]
    """log p(action | source, target) of the dynamics model, summed over tokens; 0 without a dynamics
    model."""

    @property
    def best(self) -> int:
        """The index of the highest score; the first if several are equal."""
        return int(self.scores_N.argmax())


def imagine_best(
    world: WorldModel,
    dynamics: DynamicsModel[Any] | None,
    source: NDArray[Any],
    action: str,
    num_samples: int,
    seed: int,
    temperature: float = 1.0,
) -> Imagined:
    """Sample targets from the world model and score each with the dynamics model.

    Sample i doesn't depend on `num_samples`. Without a dynamics model all scores are 0, and the first is
    kept.
    """
    targets_N = world.imagine(source, action, num_samples, seed, temperature)
    if dynamics is None:
        return Imagined(targets_N, np.zeros(num_samples))
    source_view, *target_views = (_view(dynamics, world, frame) for frame in (source, *targets_N))
    triplets = [Triplet(source_view, target_view, action) for target_view in target_views]
    return Imagined(targets_N, np.asarray(dynamics.score(triplets), np.float64))


def _view(dynamics: DynamicsModel[Any], world: WorldModel, frame: NDArray[Any]) -> Any:
    """A frame of the world model in the form that the dynamics model sees."""

    def image() -> bytes:
        png = io.BytesIO()
        world.pictures(frame[None])[0].save(png, "PNG")
        return png.getvalue()

    return dynamics.see(frame if same_network(dynamics.codec_id, world.codec_id) else None, image)


def roll_out(
    world: WorldModel,
    dynamics: DynamicsModel[Any],
    source: NDArray[Any],
    actions: Sequence[str],
    seeds: Sequence[int],
    num_samples: int,
    temperature: float = 1.0,
) -> Iterator[Imagined]:
    """One action after another, each with its seed. The best target of a step is the source of the next."""
    for action, seed in zip(actions, seeds, strict=True):
        imagined = imagine_best(world, dynamics, source, action, num_samples, seed, temperature)
        yield imagined
        source = imagined.targets_N[imagined.best]
