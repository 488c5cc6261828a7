"""A vision-language model as a judge of images (evaluation in arXiv:2506.06006).

Its score is the lower of two, from 0 to 10.

Every reply is kept unchanged. A reply without two scores is a failure with a code, and has no score.
`scene_judge.py` is the exact judge of the simulated world.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from kinescribe.models.endpoint import Endpoint, Question, Reply
from kinescribe.schemas.errors import InputError
from kinescribe.schemas.rendering import Progress

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
    """The scores that the judge is asked for."""

    editing: Score
    minimal: Score


class JudgeReply(BaseModel):
    """A judge's reply about an image, and the scores in it."""

    judge: str
    sample: str
    reply: str
    failure: str | None
    """The endpoint's `Failure`, "unparsable" without two scores in the reply, else None."""
    scores: Scores | None

    @property
    def score(self) -> float | None:
        """The lower of the two; None after a failure."""
        return min(self.scores.editing, self.scores.minimal) if self.scores else None


class Sample(BaseModel):
    """An image to judge, and the source and action that it was made from."""

    action: str
    source: Path
    output: Path


def judge_samples(
    endpoint: Endpoint,
    samples: Mapping[str, Sample],
    replies: Path,
    progress: Progress,
) -> dict[str, JudgeReply]:
    """Judge each sample. Replies are appended to the file `replies`, one JSON object a line.

    Samples that this judge has scored in that file are not asked for again. Raises InputError if the file is
    not one of replies.
    """
    found = {name: reply for name, reply in _read(replies, endpoint).items() if name in samples}
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
            found[name] = JudgeReply(
                judge=endpoint.model, sample=name, reply=reply.text, failure=failure, scores=scores
            )
            file.write(found[name].model_dump_json() + "\n")
            file.flush()
            progress(len(found), len(samples))

        endpoint.ask(questions, heard)
    return found


def parse(reply: str) -> Scores | None:
    """The scores in the last JSON object of a reply, or None."""
    objects = re.findall(r"\{[^{}]*\}", reply)
    try:
        return Scores.model_validate_json(objects[-1]) if objects else None
    except ValidationError:
        return None


def _read(replies: Path, endpoint: Endpoint) -> dict[str, JudgeReply]:
    """What this judge has scored before. A killed process may have left half a last line."""
    if not replies.exists():
        return {}
    *lines, rest = replies.read_text("utf-8").split("\n")
    try:
        replied = [JudgeReply.model_validate_json(line) for line in lines]
    except ValidationError as error:
        raise InputError(f"{replies} is not a file of a judge's replies; move it away") from error
    if rest:
        replies.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return {reply.sample: reply for reply in replied if reply.judge == endpoint.model and reply.scores}
