"""The base class of dynamics models: they describe the action between two frames and score how likely it is.

Knows no concrete model. `TokenVLM` sees codes; `ChatVLM` and `EndpointVLM` see images. Callers don't need to
know which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple

import numpy as np

from kinescribe.models.families import Capability
from kinescribe.models.tokens import Codes, Pair, Task, Triplet, View

QUESTION = (
    "The first picture was taken a moment before the second. In one short sentence that begins with a verb, "
    "say what was done between the two, or how the camera moved, and nothing else."
)
"""The prompt of chat models, after the two images."""


class Description(NamedTuple):
    """An action that a dynamics model wrote, with its likelihood."""

    text: str
    logprob: float | None
    """Sum over its tokens, including the closing one; None if a server returns none."""
    num_tokens: int | None
    finish_reason: Literal["stop", "length"]

    @property
    def mean_logprob(self) -> float | None:
        """Per token."""
        return None if self.logprob is None or not self.num_tokens else self.logprob / self.num_tokens


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a pair has no description."""

    message: str


class ActionModel(ABC):
    """What dynamics and world models share: both read actions in words."""

    name: str | None = None
    """The name that it was loaded by."""
    does: tuple[Capability, ...] = ()
    """What it can do."""

    def __repr__(self) -> str:
        """The name, what the model can do, its size and where it runs."""
        name = "unnamed" if self.name is None else repr(self.name)
        return f"{type(self).__name__}({name}: {', '.join(self.does)}; {'; '.join(self.details())})"

    @abstractmethod
    def details(self) -> list[str]:
        """The facts that `repr` shows after the name."""

    @property
    @abstractmethod
    def codec_id(self) -> str | None:
        """The id of the codec of the codes that it sees; None if it sees images."""

    @abstractmethod
    def takes(self, task: Task, action: str) -> bool:
        """Whether a triplet with this action fits into the model's context."""

    @abstractmethod
    def knows_a_word(self, action: str) -> bool:
        """Whether any word of the action is a single token. If not, the model sees all words in pieces."""


class DynamicsModel(ActionModel, Generic[View]):
    """Describes frame pairs and scores triplets. `View` is the form in which the model sees a frame."""

    @abstractmethod
    def see(self, codes: Codes | None, image: Callable[[], bytes]) -> View:
        """A frame in the form that this model sees, from its codes of shape (L,) or its JPEG or PNG.

        `codes` is None if the dataset has no codes of this model's codec.
        """

    @abstractmethod
    def describe(
        self,
        pairs: Sequence[Pair[View]],
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
    ) -> Sequence[Description | Failure]:
        """The action between the two frames of each pair (inverse dynamics).

        Temperature 0 is greedy. Above 0, `seeds` holds one seed per pair, so that a pair's sample doesn't
        depend on its batch. Log-probabilities are always those at temperature 1.
        """

    @abstractmethod
    def score(self, triplets: Sequence[Triplet[View]], task: Task = "dynamics") -> list[float]:
        """log p(action | source, target) of each triplet, summed over its tokens.

        A unified model also scores the world task: log p(target | source, action).
        """

    def contrast(self, triplets: Sequence[Triplet[View]]) -> list[float]:
        """How much likelier each action is for its pair than for the likelier of two manipulated pairs.

        log p(a | s, t) − max(log p(a | t, s), log p(a | s, s)), each summed over the action's tokens. One
        manipulated pair is swapped, the other copies the source (the preference test of arXiv:2506.06006). An
        action that is its own inverse, such as turning, is equally likely for the swapped pair, so its
        contrast is about 0 even if it is right.
        """
        swapped = self.score([triplet.swapped for triplet in triplets])
        copied = self.score([triplet.copied for triplet in triplets])
        return np.subtract(self.score(triplets), np.maximum(swapped, copied)).tolist()


def network_details(network: Any) -> list[str]:
    """Number of parameters, device and dtype of a torch network, for `ActionModel.details`."""
    count = sum(parameter.numel() for parameter in network.parameters())
    unit, size = next(
        (unit, size) for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3), ("", 1)) if count >= size
    )
    dtype = str(network.dtype).removeprefix("torch.")
    return [f"{count / size:.1f}{unit} parameters", f"{network.device}, {dtype}"]
