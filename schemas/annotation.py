"""How a dynamics model is asked, and how it writes actions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kinescribe.schemas.config_base import Config, Positive
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.prompts import (
    QUESTION,
    QUESTION_OF_SEVERAL,
    Example,
    Prompt,
    PromptText,
    Vocabulary,
    filled,
    placeholders,
)
from kinescribe.schemas.sampling import Sampling

MOST_CONTEXT = 16


class Asking(Config):
    """What a model is asked, unless it is an embedded one."""

    question: PromptText | None = None
    """What follows the images. None is `prompts.QUESTION`. `{action_class}` and, when labelling, names of
    carried columns in braces stand for the clip's values; `@FILE` is the text of a file."""
    system: PromptText | None = None
    """The system prompt, with the same placeholders. None is the model's own."""

    examples: Annotated[str, Field(min_length=1)] | None = None
    """A dataset of a few pairs with actions, which a chat model sees before the question, in this order, as
    earlier turns of the conversation."""

    context_frames: Annotated[int, Field(ge=0, le=MOST_CONTEXT)] = 0
    """How many frames between the two a chat model sees as well, evenly spaced in time."""

    @property
    def names(self) -> set[str]:
        """The placeholders."""
        return {*placeholders(self.question or ""), *placeholders(self.system or "")}

    def prompt(self, values: Mapping[str, object], examples: tuple[Example, ...] = ()) -> Prompt:
        """The prompt of a clip with these values, after the examples."""
        return Prompt(self.asked(values), filled(self.system or "", values), examples)

    def asked(self, values: Mapping[str, object]) -> str:
        """The question about a clip with these values."""
        default = QUESTION_OF_SEVERAL if self.context_frames else QUESTION
        return filled(self.question or default, values)

    def require_known(self, names: Collection[str], section: str, remedy: str) -> None:
        """Raise ValueError if a placeholder is none of the names."""
        for key in ("question", "system"):
            if unknown := sorted({*placeholders(getattr(self, key) or "")} - {*names}):
                raise ValueError(
                    f"{section}{key} asks for {unknown[0]!r}, but only {', '.join(sorted(names))} is known; "
                    f"{remedy}"
                )

    def require_asked(self, section: str, name: str, family: str, asks: Collection[str]) -> None:
        """Raise ConfigError if there is a value for a key that is not what the family `asks`."""
        for key in Asking.model_fields:
            if getattr(self, key) and key not in asks:
                known = f"asked only a {' and '.join(asks)}" if asks else "asked nothing"
                raise ConfigError(f"{section}{key}: {name} is {family}, which is {known}; leave it out")


class Annotation(Asking):
    """How the dynamics model writes actions."""

    vocabulary: Vocabulary | None = None
    """A list of actions, or the path of a file with one in each line. The label is then the likeliest of
    them, with its posterior over all of them and the runner-up."""
    max_new_tokens: Positive = 32
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 is greedy. Above 0, actions are sampled with a seed derived from the clip's id."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Positive | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    """See `Sampling`; none by default, whatever the model's generation_config.json says."""
    seed: int = 0
    scores: Literal["likelihood", "likelihood,contrast"] = "likelihood"
    """`contrast` adds three passes over each pair. They measure how much likelier the action is for the pair
    than for the swapped pair and for a copy of the source (`DynamicsModel.contrast`)."""

    @property
    def scores_given(self) -> bool:
        """Whether the model must score actions that are given, which a server can't."""
        return self.scores == "likelihood,contrast" or self.vocabulary is not None

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(*(getattr(self, name) for name in Sampling._fields))

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Self:
        given = [name for name in Sampling._fields if getattr(self, name)]
        if self.vocabulary is not None and given:
            raise ValueError(
                f"{given[0]}: with a vocabulary nothing is drawn, since its likeliest action is taken; leave "
                "it out"
            )
        for name in {"top_p", "top_k"}.intersection(given if not self.temperature else ()):
            raise ValueError(f"{name} needs a temperature above 0, got 0; set one, or leave {name} out")
        return self
