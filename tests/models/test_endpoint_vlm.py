import base64
import io
import socket
from typing import Any

import pytest
from PIL import Image

from kinescribe.models.dynamics import Description, Failure
from kinescribe.models.endpoint import Endpoint
from kinescribe.models.endpoint_vlm import EndpointVLM
from kinescribe.models.tokens import Pair, Triplet
from kinescribe.schemas.errors import ModelError
from tests.judge_server import Answer, JudgeServer, serving

SAID = Answer(" Move the red ball left. ", finish_reason="stop", logprobs=(-0.5, -0.25, -1.0))


def picture(colour: str, kind: str = "JPEG") -> bytes:
    stored = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(stored, kind)
    return stored.getvalue()


RED, BLUE = picture("red"), picture("blue", "PNG")


def describe(
    server: JudgeServer, num: int = 1, temperature: float = 0.0, **options: float
) -> list[Description | Failure]:
    endpoint = Endpoint("vlm", server.url, **options)  # pyright: ignore[reportArgumentType]
    pairs = [Pair(RED, BLUE)] * num
    return EndpointVLM(endpoint).describe(pairs, 12, temperature, list(range(num)))


def test_a_pair_is_sent_unchanged_and_a_sentence_with_its_likelihood_returned():
    with serving(JudgeServer(always=SAID)) as server:
        assert describe(server) == [Description("Move the red ball left.", -1.75, 3, "stop")]
    (request,) = server.asked
    source, target, question = request["messages"][0]["content"]
    for part, kind, image in ((source, "jpeg", RED), (target, "png", BLUE)):
        header, _, data = part["image_url"]["url"].partition(",")
        assert (header, base64.b64decode(data)) == (f"data:image/{kind};base64", image)
    assert "one short sentence" in question["text"]
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("vlm", 12, 0)
    assert request["logprobs"] is True
    assert "seed" not in request


def test_a_server_without_likelihoods_gives_none():
    with serving(JudgeServer(always=Answer("pan left", finish_reason="length"))) as server:
        assert describe(server) == [Description("pan left", None, None, "length")]


def test_each_pair_is_sampled_with_its_own_seed():
    with serving(JudgeServer(always=SAID)) as server:
        describe(server, 3, temperature=0.7)
    assert sorted((request["seed"], request["temperature"]) for request in server.asked) == [
        (0, 0.7),
        (1, 0.7),
        (2, 0.7),
    ]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(status=429, body=b'{"error": "busy"}'), "refused: 429"),
        (Answer("late", delay_s=2), "timeout: "),
        (Answer(body=b"<html>proxy</html>"), "garbage: <html>proxy</html>"),
        (Answer(body=b'{"choices": [{"message": {"content": null}}]}'), "garbage: "),
        (Answer("", finish_reason="stop"), "unparsable: ''"),
        (Answer("1.\n2.", finish_reason="stop"), "unparsable: "),
        (Answer("...", finish_reason="stop"), "unparsable: '...'"),
        (Answer("pan", finish_reason="content_filter"), "unfinished: finish_reason content_filter"),
        (Answer("pan"), "unfinished: finish_reason None"),
    ],
)
def test_a_reply_that_is_not_a_sentence_is_a_failure_with_a_code(answer: Answer, code: str):
    with serving(JudgeServer(always=answer)) as server:
        (failed,) = describe(server, max_retries=1, timeout_s=0.5)
    assert isinstance(failed, Failure)
    assert failed.message.startswith(code)


def test_a_failure_affects_only_its_pair():
    with serving(JudgeServer([Answer("?", finish_reason="stop")], SAID)) as server:
        first, *others = describe(server, 3, num_at_once=1)
    assert isinstance(first, Failure)
    assert all(isinstance(one, Description) for one in others)


def test_a_missing_server_fails_each_pair():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server = JudgeServer(url=f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
        failures = describe(server, 2, max_retries=0)
    assert all(isinstance(one, Failure) and one.message.startswith("unreachable: ") for one in failures)


class EchoServer(JudgeServer):
    """Says which seed it was asked with, the first the latest."""

    def answer(self, request: dict[str, Any]) -> Answer:
        self.always = Answer(delay_s=0.2 - 0.02 * request["seed"])
        super().answer(request)
        return Answer(f"action {request['seed']}", finish_reason="stop")


def test_pairs_are_asked_together_up_to_the_bound_and_answers_come_in_their_order():
    with serving(EchoServer()) as server:
        said = describe(server, 8, temperature=1.0, num_at_once=4)
    assert server.most_at_once == 4
    assert [one.text for one in said if isinstance(one, Description)] == [f"action {n}" for n in range(8)]


def test_only_the_server_sees_the_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    refusal = Answer(status=401, body=b"wrong key sk-secret")
    with serving(JudgeServer(always=refusal)) as server:
        assert describe(server) == [Failure("refused: 401 wrong key ***")]


def test_given_actions_are_not_scored():
    model = EndpointVLM(Endpoint("vlm", "http://host/v1"))
    with pytest.raises(ModelError, match="vlm@http://host/v1 is a server"):
        model.score([Triplet(RED, BLUE, "pan left")])
