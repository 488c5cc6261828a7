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
from kinescribe.schemas.sampling import GREEDY, Sampling


class Description(NamedTuple):
    """An action that a dynamics model wrote, with its likelihood."""

    text: str
    logprob: float | None
    """Sum over its tokens, including the closing one; None if a server returns none."""
    num_tokens: int | None
    finish_reason: Literal["stop", "length"]
    probability: float | None = None
    """Of an action that was chosen from a list, its posterior over the list."""
    runner_up: str | None = None
    """The second likeliest of the list."""

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

    pairs_at_once: int | None = None
    """The most pairs that one call should get; None if that depends on the hardware."""

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
        sampling: Sampling = GREEDY,
        seeds: Sequence[int] | None = None,
    ) -> Sequence[Description | Failure]:
        """The action between the two frames of each pair (inverse dynamics).

        At a temperature above 0, `seeds` holds one seed per pair, so that a pair's sample doesn't depend on
        its batch. Log-probabilities are always those at temperature 1.
        """

    @abstractmethod
    def choose(self, pairs: Sequence[Pair[View]], actions: Sequence[str]) -> list[Description]:
        """The likeliest of at least two actions for each pair, with its posterior over all of them."""

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
