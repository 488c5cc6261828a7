"""A vision-language model as a judge of images (METHOD §5): two scores from 0 to 10, the smaller counts.

Every reply is kept as it came. One that holds no two scores is a failure with a code and counts for nothing:
there is no score by default. `judge.py` is the exact judge of the simulated world.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from kinescribe.models.endpoint import Endpoint, Question, Reply
from kinescribe.schemas.errors import InputError

PROMPT = """You judge the work of a program that edits pictures. The first picture is what it was given, the \
second what it made. It was asked: "{action}"

Give two scores from 0 to 10.
"editing": how well the second picture shows what was asked for. 0 if nothing of it is to be seen, for one \
because the two pictures are the same; 10 if it is done exactly.
"minimal": how well everything that was not to be changed is as it was. 0 if the second picture is another \
scene or broken; 10 if nothing else differs.

Say in a sentence what differs between the two pictures, then end with a line of JSON, and nothing after it: \
{{"editing": SCORE, "minimal": SCORE}}"""
Score = Annotated[float, Field(ge=0, le=10, strict=True)]


class Scores(BaseModel):
    """What the judge is asked for."""

    editing: Score
    minimal: Score


class Verdict(BaseModel):
    """One reply of a judge about one image, and what was read from it."""

    judge: str
    sample: str
    reply: str
    failure: str | None
    """`Failure` of the endpoint, "unparsable" where the reply holds no two scores, None where it does."""
    scores: Scores | None

    @property
    def score(self) -> float | None:
        """The smaller of the two; None after a failure."""
        return min(self.scores.editing, self.scores.minimal) if self.scores else None


class Sample(BaseModel):
    """An image to judge, beside what it was made of."""

    action: str
    source: Path
    output: Path


def judge_samples(
    endpoint: Endpoint,
    samples: Mapping[str, Sample],
    replies: Path,
    progress: Callable[[int, int], None],
) -> dict[str, Verdict]:
    """The verdict on each sample. All replies go to the file `replies` as they come, one JSON a line.

    What this judge has scored in that file already is not asked for again. Raises InputError where the file
    is none of replies.
    """
    found = {name: verdict for name, verdict in _read(replies, endpoint).items() if name in samples}
    questions = {
        name: Question(PROMPT.format(action=sample.action), (sample.source, sample.output))
        for name, sample in samples.items()
        if name not in found
    }
    progress(len(found), len(samples))
    with replies.open("a", encoding="utf-8") as file:

        def heard(name: str, reply: Reply) -> None:
            scores = None if reply.failure else parse(reply.text)
            failure = reply.failure or (None if scores else "unparsable")
            found[name] = Verdict(
                judge=endpoint.model, sample=name, reply=reply.text, failure=failure, scores=scores
            )
            file.write(found[name].model_dump_json() + "\n")
            file.flush()
            progress(len(found), len(samples))

        endpoint.ask(questions, heard)
    return found


def parse(reply: str) -> Scores | None:
    """The scores in the last JSON object of a reply; None where it has none, or they are no scores."""
    objects = re.findall(r"\{[^{}]*\}", reply)
    try:
        return Scores.model_validate_json(objects[-1]) if objects else None
    except ValidationError:
        return None


def _read(replies: Path, endpoint: Endpoint) -> dict[str, Verdict]:
    """What this judge has scored before. The last line may be half, if the process was killed."""
    if not replies.exists():
        return {}
    *lines, rest = replies.read_text("utf-8").split("\n")
    if rest:
        replies.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    try:
        verdicts = [Verdict.model_validate_json(line) for line in lines]
    except ValidationError as error:
        raise InputError(f"{replies} holds other things than a judge's replies; move it away") from error
    return {one.sample: one for one in verdicts if one.judge == endpoint.model and one.scores}
