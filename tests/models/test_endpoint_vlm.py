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
from kinescribe.schemas.prompts import Example, Prompt
from kinescribe.schemas.sampling import Sampling
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
    return EndpointVLM(endpoint).describe(pairs, 12, Sampling(temperature), list(range(num)))


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


def test_each_pair_is_asked_its_own_question_after_the_system_prompt():
    pairs = [Pair(RED, BLUE, Prompt("What moved?", "Be brief.")), Pair(RED, BLUE, Prompt("What else?"))]
    with serving(JudgeServer(always=SAID)) as server:
        EndpointVLM(Endpoint("vlm", server.url)).describe(pairs, 12)
    asked = sorted((request["messages"] for request in server.asked), key=len)
    assert [[message["role"] for message in messages] for messages in asked] == [["user"], ["system", "user"]]
    assert [messages[-1]["content"][2]["text"] for messages in asked] == ["What else?", "What moved?"]
    assert asked[1][0]["content"] == "Be brief."


def test_examples_are_earlier_turns_and_frames_between_are_in_order():
    prompt = Prompt("What moved?", "Be brief.", (Example((BLUE, RED), "What of it?", "pan left"),))
    with serving(JudgeServer(always=SAID)) as server:
        EndpointVLM(Endpoint("vlm", server.url)).describe([Pair(RED, BLUE, prompt, (BLUE,))], 12)
    (request,) = server.asked
    system, question, answer, last = request["messages"]
    roles = [message["role"] for message in request["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert system["content"] == "Be brief."
    assert answer["content"] == "pan left"
    for asked, text, images in (
        (question, "What of it?", (BLUE, RED)),
        (last, "What moved?", (RED, BLUE, BLUE)),
    ):
        *parts, words = asked["content"]
        assert words["text"] == text
        data = [part["image_url"]["url"].partition(",")[2] for part in parts]
        assert [base64.b64decode(one) for one in data] == [*images]


def test_neutral_sampling_values_replace_those_of_the_checkpoint():
    with serving(JudgeServer(always=SAID)) as server:
        describe(server)
    (request,) = server.asked
    assert request.items() >= {"top_p": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1}.items()
    assert request.items() >= {"presence_penalty": 0, "frequency_penalty": 0}.items()


def test_options_of_sampling_replace_the_neutral_values():
    with serving(JudgeServer(always=SAID)) as server:
        model = EndpointVLM(Endpoint("vlm", server.url))
        model.describe([Pair(RED, BLUE)], 12, Sampling(0.7, 0.9, 40, 1.1), [3])
    (request,) = server.asked
    assert request.items() >= {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "seed": 3}.items()
    assert request["repetition_penalty"] == 1.1


def test_an_option_that_was_asked_for_is_not_left_out():
    refusal = Answer(status=400, body=b"unknown argument top_k")
    with serving(JudgeServer(always=refusal)) as server:
        model = EndpointVLM(Endpoint("vlm", server.url))
        said = model.describe([Pair(RED, BLUE)], 12, Sampling(0.7, top_k=40), [3])
    assert said == [Failure("refused: 400 unknown argument top_k")]


@pytest.mark.parametrize("status", [400, 422])
def test_options_that_a_server_refuses_are_left_out_from_then_on(status: int):
    said = [
        Answer(status=status, body=b'{"error": "Unrecognized request arguments: top_k, min_p"}'),
        Answer(status=status, body=b'{"error": "repetition_penalty: extra inputs are not permitted"}'),
        Answer(status=status, body=b'"max_tokens" isn\'t supported; use max_completion_tokens'),
        Answer(status=status, body=b'{"error": "this model does not support logprobs"}'),
        SAID,
    ]
    with serving(JudgeServer(said, SAID)) as server:
        model = EndpointVLM(Endpoint("vlm", server.url))
        for _ in range(2):
            assert isinstance(model.describe([Pair(RED, BLUE)], 12)[0], Description)
    assert len(server.asked) == len(said) + 1
    for request in server.asked[len(said) - 1 :]:
        assert request["max_completion_tokens"] == 12
        assert not request.keys() & {"top_k", "min_p", "repetition_penalty", "max_tokens", "logprobs"}
        assert request["top_p"] == 1


class Strict(JudgeServer):
    """Refuses requests with `top_k`, each of them."""

    def answer(self, request: dict[str, Any]) -> Answer:
        said = super().answer(request)
        return Answer(status=400, body=b"unknown argument top_k", delay_s=0.2) if "top_k" in request else said


def test_requests_that_are_refused_together_are_all_sent_again():
    with serving(Strict(always=Answer("pan left", finish_reason="stop", delay_s=0.2))) as server:
        said = describe(server, 8)
    assert said == [Description("pan left", None, None, "stop")] * 8
    assert len(server.asked) == 16


def test_a_refusal_for_another_reason_is_one_request():
    with serving(JudgeServer(always=Answer(status=400, body=b"too long"))) as server:
        assert describe(server) == [Failure("refused: 400 too long")]
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "models", "message"),
    [
        (
            Answer(status=404, body=b"no model vlm"),
            ["qwen", "llava"],
            "refused: 404 no model vlm; it serves qwen, llava; ",
        ),
        (
            Answer(status=404, body=b"no model vlm"),
            None,
            "refused: 404 no model vlm; start the server, or correct",
        ),
        (Answer(status=401, body=b"no key"), None, "refused: 401 no key; "),
        (
            Answer(status=400, body=b"maximum context length is 512"),
            ["vlm"],
            "context length is 512; it serves vlm; ",
        ),
        (Answer(body=b"<html>"), None, "garbage: <html>; "),
    ],
)
def test_a_server_that_cannot_answer_is_told_before_anything_starts(
    answer: Answer, models: list[str] | None, message: str
):
    with serving(JudgeServer(always=answer, models=models)) as server:
        model = EndpointVLM(Endpoint("vlm", server.url))
        with pytest.raises(ModelError) as refused:
            model.require_answer(Prompt(), 8)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "said", [SAID, Answer("", finish_reason="stop"), Answer("1.\n2.", finish_reason="stop")]
)
def test_whatever_a_model_says_of_blank_images_is_an_answer(said: Answer):
    with serving(JudgeServer(always=said)) as server:
        EndpointVLM(Endpoint("vlm", server.url)).require_answer(Prompt(system="Be brief."), 8)
    (request,) = server.asked
    assert [message["role"] for message in request["messages"]] == ["system", "user"]


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
        (Answer("<think>The ball</think> pan", finish_reason="stop"), "unparsable: thoughts"),
        (
            Answer(body=b'{"choices": [{"message": {"content": null, "reasoning": "The ball"}}]}'),
            "unparsable: thoughts",
        ),
        (Answer('"', finish_reason="stop"), "unparsable: "),
        (Answer("pan", finish_reason="content_filter"), "unfinished: finish_reason content_filter"),
        (Answer("pan"), "unfinished: finish_reason None"),
    ],
)
def test_a_reply_that_is_not_a_sentence_is_a_failure_with_a_code(answer: Answer, code: str):
    with serving(JudgeServer(always=answer)) as server:
        (failed,) = describe(server, max_retries=1, timeout_s=0.5)
    assert isinstance(failed, Failure)
    assert failed.message.startswith(code)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ('\n"Move the ball."\n', "Move the ball."),
        ("“Move the ball.”", "Move the ball."),
        ("'Move the ball.'", "Move the ball."),
        ("` Move the ball `", "Move the ball"),
        ('Say "hello" to "her"', 'Say "hello" to "her"'),
        ('"Open" the "box"', '"Open" the "box"'),
        ("'Tis the dog's turn", "'Tis the dog's turn"),
    ],
)
def test_quotation_marks_around_the_whole_sentence_are_taken_off(text: str, action: str):
    with serving(JudgeServer(always=Answer(text, finish_reason="stop"))) as server:
        assert describe(server) == [Description(action, None, None, "stop")]


def test_a_model_that_cannot_be_kept_from_thinking_is_told_at_the_start():
    thoughts = Answer("<think>The first picture", finish_reason="length")
    with (
        serving(JudgeServer(always=thoughts)) as server,
        pytest.raises(ModelError, match="thinks before it answers although told not to; start the server"),
    ):
        EndpointVLM(Endpoint("vlm", server.url)).require_answer(Prompt(), 8)
    assert server.asked[0]["chat_template_kwargs"] == {"enable_thinking": False}


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
