"""What a world model is (METHOD, Terms): it draws what will come of an action.

Knows no model: `TokenVLM` draws codes, `EditDiffusion` draws latent images; who asks need not know which.
Shapes: N frames, each an array of the model's own shape.
"""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray
from PIL import Image

from kinescribe.models.dynamics import ActionModel


class WorldModel(ActionModel, Protocol):
    """Draws targets as it sees frames, and shows frames as images."""

    @property
    def resolution(self) -> int:
        """Side in pixels of the square images that it sees and draws."""
        ...

    def encode(self, image: Image.Image) -> NDArray[Any]:
        """The central square of an image as this model sees it."""
        ...

    def imagine(
        self, source: NDArray[Any], action: str, num_samples: int, seed: int, temperature: float = 1.0
    ) -> NDArray[Any]:
        """`num_samples` imagined targets, stacked (forward dynamics, METHOD §3).

        Sample i is the same whatever `num_samples` is.
        """
        ...

    def pictures(self, frames_N: NDArray[Any]) -> list[Image.Image]:
        """Frames as images, of side `resolution`."""
        ...
