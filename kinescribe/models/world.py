"""The base class of world models: they draw what follows an action.

Knows no concrete model. `TokenVLM` draws codes and `EditDiffusion` draws latent images; callers don't need to
know which. Shapes: N frames, each an array of the model's own shape.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from kinescribe.models.dynamics import ActionModel
from kinescribe.schemas.codes import Fit


class WorldModel(ActionModel):
    """Draws target frames in its own form, and converts frames from and to images."""

    @property
    def fit(self) -> Fit:
        """How it sees pictures that aren't square."""
        return "crop"

    @property
    @abstractmethod
    def resolution(self) -> int:
        """Side in pixels of the square images that it sees and draws."""

    @abstractmethod
    def encode(self, image: Image.Image) -> NDArray[Any]:
        """An image as a square, in the form that this model sees."""

    @abstractmethod
    def imagine(
        self, source: NDArray[Any], action: str, num_samples: int, seed: int, temperature: float = 1.0
    ) -> NDArray[Any]:
        """`num_samples` targets, stacked (forward dynamics, arXiv:2506.06006).

        Sample i doesn't depend on `num_samples`.
        """

    @abstractmethod
    def pictures(self, frames_N: NDArray[Any]) -> list[Image.Image]:
        """The frames as images of side `resolution`."""
