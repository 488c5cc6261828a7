"""What a dynamics model is (METHOD §2): it says what was done between two frames, and how likely that is.

Knows no model: `TokenVLM` sees codes, `ChatVLM` and `EndpointVLM` see images; who asks need not know which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from kinescribe.models.tokens import Codes, Frame, Pair, Task, Triplet

QUESTION = (
    "The first picture was taken a moment before the second. In one short sentence that begins with a verb, "
    "say what was done between the two, or how the camera moved, and nothing else."
)
"""What a chat model is asked of two images."""


class Description(NamedTuple):
    """An action that a dynamics model wrote, with its likelihood."""

    text: str
    logprob: float | None
    """Sum over its tokens, the closing one included; None where a server gives none."""
    num_tokens: int | None
    finish_reason: Literal["stop", "length"]

    @property
    def mean_logprob(self) -> float | None:
        """Per token."""
        return None if self.logprob is None or not self.num_tokens else self.logprob / self.num_tokens


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no description of one pair."""

    message: str


class ActionModel(Protocol):
    """What dynamics and world models share: they take actions in words."""

    @property
    def codec_id(self) -> str | None:
        """Of the codec whose codes it sees; None where it sees images."""
        ...

    def takes(self, task: Task, action: str) -> bool:
        """Whether a triplet with this action is not too long for it."""
        ...

    def knows_a_word(self, action: str) -> bool:
        """Whether any word of the action is a token of its own; else the model sees them in pieces."""
        ...


class DynamicsModel(ActionModel, Protocol[Frame]):
    """Describes pairs and scores triplets of frames as it sees them."""

    def see(self, codes: Codes | None, image: Callable[[], bytes]) -> Frame:
        """A frame as this model sees it, from its codes of shape (L,) or its JPEG or PNG.

        `codes` are None where there are none of this model's codec.
        """
        ...

    def describe(
        self,
        pairs: Sequence[Pair[Frame]],
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
    ) -> Sequence[Description | Failure]:
        """The action between the two frames of each pair (inverse dynamics).

        temperature 0 is greedy; above it, `seeds` holds one seed for each pair, so that a pair's sample
        does not depend on its batch. Log-probabilities are the model's own, at temperature 1.
        """
        ...

    def score(self, triplets: Sequence[Triplet[Frame]], task: Task = "dynamics") -> list[float]:
        """log p(action | source, target) of each triplet, summed over its tokens.

        A unified model scores the world task too.
        """
        ...

    def contrast(self, triplets: Sequence[Triplet[Frame]]) -> list[float]:
        """How much likelier each action is for its pair than for the likelier of two manipulated pairs.

        log p(a | s, t) − max(log p(a | t, s), log p(a | s, s)), each summed over the action's tokens: one
        pair is swapped, the other has the source copied (METHOD §5). An action that is its own inverse, as
        turning, is as likely for the pair swapped, so that its contrast is about 0 even where it is right.
        """
        swapped = self.score([triplet.swapped for triplet in triplets])
        copied = self.score([triplet.copied for triplet in triplets])
        return np.subtract(self.score(triplets), np.maximum(swapped, copied)).tolist()
