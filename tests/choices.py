"""What every model that chooses among given actions must do."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from kinescribe.models.dynamics import DynamicsModel
from kinescribe.models.tokens import Pair

ACTIONS = ("turn", "move the red ball left", "pan right", "open the door slowly", "nothing changes")


def assert_choice_is_by_score(
    model: DynamicsModel[Any], pairs: Sequence[Pair[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice is the action with the best score, however many actions share a pass."""
    together = model.choose(pairs, ACTIONS)
    for pair, choice in zip(pairs, together, strict=True):
        scores = np.array(model.score([pair.triplet(action) for action in ACTIONS]))
        best, second = np.argsort(-scores)[:2]
        assert (choice.text, choice.runner_up, choice.finish_reason) == (
            ACTIONS[best],
            ACTIONS[second],
            "stop",
        )
        assert choice.logprob == pytest.approx(scores[best], abs=1e-3)
        assert choice.probability == pytest.approx(1 / np.exp(scores - scores[best]).sum(), rel=1e-2)
        assert choice.num_tokens is not None
        assert choice.num_tokens > 1
    monkeypatch.setattr("kinescribe.models.choosing.CPU_ROOM", 1)
    for choice, alone in zip(together, model.choose(pairs, ACTIONS), strict=True):
        assert (alone.text, alone.runner_up, alone.num_tokens) == (
            choice.text,
            choice.runner_up,
            choice.num_tokens,
        )
        assert alone.logprob == pytest.approx(choice.logprob, abs=1e-3)
