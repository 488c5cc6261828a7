"""What raters say of a dataset's labels: the file that a review page exports."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from kinescribe.schemas.actions import in_words
from kinescribe.schemas.clips import ID
from kinescribe.schemas.config import Draw

Verdict = Literal["keep", "correct", "reject"]
Reason = Literal["action", "nothing", "several", "shots", "picture", "unclear"]
REASONS: dict[Reason, str] = {
    "action": "The sentence says something else",
    "nothing": "Nothing happens",
    "several": "Several things happen",
    "shots": "The frames are of two shots",
    "picture": "A picture is broken or blurred",
    "unclear": "One can't tell",
}
"""Why a pair is rejected, as the page asks for it."""
MAX_ACTION_CHARACTERS = 1000
Id = Annotated[str, Field(pattern=ID)]


class Rating(BaseModel):
    """What one rater says of one row: it is right, it should say something else, or it is of no use."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    action: Annotated[str, Field(max_length=MAX_ACTION_CHARACTERS), AfterValidator(in_words)] | None = None
    """The right words; of `correct` only."""
    reason: Reason | None = None
    """One of `REASONS`; of `reject` only."""

    @model_validator(mode="after")
    def _has_words_if_corrected(self) -> Self:
        if (self.action is None) is (self.verdict == "correct"):
            raise ValueError("a rating has an action if its verdict is correct, and only then")
        return self


class Review(BaseModel):
    """One rater's answers to one page; `dataset` is the fingerprint of the run that the page shows."""

    page: Id
    dataset: Id
    draw: Draw | Literal["chosen"]
    rater: Annotated[str, Field(min_length=1, max_length=64)]
    exported: AwareDatetime
    ratings: dict[Id, Rating]
    """By the id of the triplet."""
