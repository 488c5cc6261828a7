import base64
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import pytest
from PIL import Image

from kinescribe.models.endpoint import Endpoint, Question, Reply
from kinescribe.schemas.errors import ConfigError, ModelError, ServerAway
from tests.judge_server import Answer, JudgeServer, serving
from tests.ports import free_ports


def ask(server: JudgeServer, num: int = 1, **options: Any) -> list[Reply]:
    replies: dict[str, Reply] = {}
    questions = {str(index): Question("what is it?", ()) for index in range(num)}
    endpoint = Endpoint("judge", server.url, **options)
    endpoint.ask(questions, replies.__setitem__)
    assert set(replies) == set(questions)
    return list(replies.values())


def test_words_and_pictures_go_out_and_words_come_back(tmp_path: Path):
    file = tmp_path / "a.png"
    Image.new("RGB", (4, 4), "red").save(file)
    replies: dict[str, Reply] = {}
    with serving(JudgeServer(always=Answer("a red square"))) as server:
        Endpoint("judge", server.url).ask({"a": Question("what is it?", (file,))}, replies.__setitem__)
    assert replies == {"a": Reply("a red square", None)}
    picture, words = server.asked[0]["messages"][0]["content"]
    assert (
        base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
        == file.read_bytes()
    )
    assert words == {"type": "text", "text": "what is it?"}
    assert server.asked[0]["model"] == "judge"


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(status: int):
    busy = Answer(status=status, body=b'{"error": {"message": "busy"}}')
    with serving(JudgeServer([busy, busy], Answer("at last"))) as server:
        assert ask(server) == [Reply("at last", None)]
    assert len(server.asked) == 3


def test_a_server_that_stays_busy_gives_a_failure_with_its_message():
    with serving(JudgeServer(always=Answer(status=429, body=b'{"error": "busy"}'))) as server:
        assert ask(server, max_retries=2) == [Reply('429 {"error": "busy"}', "refused")]
    assert len(server.asked) == 3


def test_a_mistake_of_ours_is_not_repeated():
    with serving(JudgeServer(always=Answer(status=400, body=b"no such model"))) as server:
        assert ask(server) == [Reply("400 no such model", "refused")]
    assert len(server.asked) == 1


def test_a_slow_server_is_a_timeout():
    with serving(JudgeServer(always=Answer("late", delay_s=3))) as server:
        (reply,) = ask(server, timeout_s=0.5, max_retries=1)
    assert reply.failure == "timeout"
    assert len(server.asked) == 2


def test_a_missing_server_is_unreachable():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        (reply,) = ask(JudgeServer(url=f"http://127.0.0.1:{unused.getsockname()[1]}/v1"), max_retries=1)
    assert reply.failure == "unreachable"


@pytest.mark.parametrize(
    "body",
    [
        b"<html>proxy</html>",
        b"{",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": null}}]}',
        b"\xff",
    ],
)
def test_a_reply_outside_the_protocol_is_garbage_and_kept(body: bytes):
    with serving(JudgeServer(always=Answer(body=body))) as server:
        assert ask(server) == [Reply(body.decode(errors="replace"), "garbage")]


@contextmanager
def hostile(send: Callable[[BaseHTTPRequestHandler], object], status: int = 200) -> Iterator[JudgeServer]:
    """A server whose replies to all requests are what `send` writes, headers included."""
    server = JudgeServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            with suppress(ConnectionError):
                send(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield server
        http.shutdown()


def send_bomb(handler: BaseHTTPRequestHandler) -> None:
    """A gigabyte in a megabyte."""
    packer = zlib.compressobj(wbits=31)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(packed)))
    handler.end_headers()
    handler.wfile.write(packed)


def send_without_end(handler: BaseHTTPRequestHandler) -> None:
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 16))


def send_drops(handler: BaseHTTPRequestHandler) -> None:
    """A byte each 50 ms, for ever."""
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(("send", "said"), [(send_bomb, "packed (gzip)"), (send_without_end, "longer than")])
def test_a_reply_takes_no_more_memory_than_its_limit(send, said: str, status: int):
    before = getrusage(RUSAGE_SELF).ru_maxrss
    with hostile(send, status) as server:
        (reply,) = ask(server, 1, max_retries=0)
    assert said in reply.text
    assert reply.failure == ("garbage" if status == 200 else "refused")
    assert getrusage(RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_a_reply_in_drops_is_a_timeout():
    with hostile(send_drops) as server:
        started = time.monotonic()
        (reply,) = ask(server, 1, timeout_s=0.5, max_retries=1)
    assert reply.failure == "timeout"
    assert time.monotonic() - started < 10
    assert len(server.asked) == 2


@pytest.mark.parametrize("logprob", ["NaN", "Infinity", "-Infinity", "5.0", "1e999"])
def test_a_log_probability_that_is_none_makes_the_reply_garbage(logprob: str):
    logprobs = f'{{"content": [{{"token": "a", "logprob": {logprob}}}]}}'
    body = f'{{"choices": [{{"message": {{"content": "push"}}, "logprobs": {logprobs}}}]}}'
    with serving(JudgeServer(always=Answer(body=body.encode()))) as server:
        assert ask(server) == [Reply(body, "garbage")]


@pytest.mark.parametrize("text", ["\x1b[2J", "a\0b", "left \u202egnp.exe", "\u2066x", "\x85"])
def test_characters_that_hide_others_make_the_reply_garbage(text: str):
    with serving(JudgeServer(always=Answer(text))) as server:
        assert ask(server)[0].failure == "garbage"


def test_only_the_beginning_of_a_long_error_is_kept():
    with serving(JudgeServer(always=Answer(body=b"x" * 100_000))) as server:
        assert ask(server) == [Reply("x" * 2000 + "…", "garbage")]


def test_no_more_are_asked_at_once_than_allowed():
    with serving(JudgeServer(always=Answer("yes", delay_s=0.1))) as server:
        assert ask(server, 12, num_at_once=3) == [Reply("yes", None)] * 12
    assert server.most_at_once == 3


def test_an_endpoint_is_named_by_model_and_url():
    endpoint = Endpoint.named("org/model@v2@https://host/v1")
    assert (endpoint.model, endpoint.url) == ("org/model@v2", "https://host/v1")


@pytest.mark.parametrize("name", ["model", "model@host", "@http://host"])
def test_a_malformed_endpoint_name_is_refused(name: str):
    with pytest.raises(ConfigError, match="MODEL@URL"):
        Endpoint.named(name)


def test_a_key_that_the_server_repeats_is_not_passed_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    with serving(JudgeServer(always=Answer(status=401, body=b"wrong key: sk-hunter2"))) as server:
        assert ask(server) == [Reply("401 wrong key: ***", "refused")]


@pytest.mark.parametrize(
    "name", ["m@https://me:hunter2@host/v1", "m@https://hunter2@host/v1", "m@https://host/v1?api_key=hunter2"]
)
def test_an_endpoint_with_credentials_is_refused_and_they_are_not_repeated(name: str):
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as refused:
        Endpoint.named(name)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("models", "root", "identity"),
    [
        (["vlm"], None, "vlm"),
        (["other", "vlm"], "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"),
        (["vlm"], "/data/models/qwen-7b", "qwen-7b"),
        (["other"], "Qwen/Qwen2.5-VL-7B-Instruct", "vlm"),
        (None, None, "vlm"),
    ],
)
def test_the_identity_is_the_model_that_is_served(models: list[str] | None, root: str | None, identity: str):
    with serving(JudgeServer(models=models, root=root)) as server:
        assert Endpoint("vlm", server.url).identity == identity


def test_a_server_that_is_not_there_has_no_identity():
    (port,) = free_ports(1)
    with pytest.raises(ModelError, match=r"vlm@http://.* can't be asked: unreachable: .*; start the server"):
        assert Endpoint("vlm", f"http://127.0.0.1:{port}/v1", max_retries=0).identity


def test_a_server_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kinescribe.models.endpoint.POLL_S", 0.05)
    (port,) = free_ports(1)
    notes = list[str]()
    endpoint = Endpoint("vlm", f"http://127.0.0.1:{port}/v1", max_retries=0, patience_s=60, note=notes.append)
    replies = list[Reply]()
    asking = threading.Thread(
        target=endpoint.ask, args=({"": Question("?", ())}, lambda _, reply: replies.append(reply))
    )
    asking.start()
    while not notes:
        time.sleep(0.01)
    with serving(JudgeServer(always=Answer("pan left"), port=port)):
        asking.join()
    assert [reply.text for reply in replies] == ["pan left"]
    assert [note.removeprefix(endpoint.name) for note in notes] == [
        " does not answer; waiting up to 1 min for it",
        " answers again",
    ]


def test_a_server_that_stays_away_ends_the_run_with_a_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kinescribe.models.endpoint.POLL_S", 0.01)
    (port,) = free_ports(1)
    endpoint = Endpoint(
        "vlm", f"http://127.0.0.1:{port}/v1", max_retries=0, patience_s=0.1, note=lambda _: None
    )
    with pytest.raises(ServerAway, match="run the same command again"):
        endpoint.ask({"a": Question("?", ()), "b": Question("?", ())}, lambda name, reply: None)


class Fragile(JudgeServer):
    """Breaks the connection of each question, and is there again at once."""

    def answer(self, request: dict[str, Any]) -> Answer:
        super().answer(request)
        return Answer(status=503, body=b"the engine died")


def test_a_question_that_ends_its_server_each_time_is_given_up():
    with serving(Fragile(models=["vlm"])) as server:
        (reply,) = ask(server, 1, max_retries=0, patience_s=60, note=lambda _: None)
    assert reply == Reply("503 the engine died", "unreachable")
    assert len(server.asked) == 4


def test_a_server_that_is_slow_is_not_away():
    with serving(JudgeServer(always=Answer(delay_s=1), models=["vlm"])) as server:
        (reply,) = ask(server, 1, timeout_s=0.3, max_retries=0, patience_s=60, note=lambda _: None)
    assert reply.failure == "timeout"


def test_threads_share_the_limit_of_questions_at_once():
    with serving(JudgeServer(always=Answer("yes", delay_s=0.2))) as server:
        endpoint = Endpoint("vlm", server.url, num_at_once=4)
        threads = [
            threading.Thread(
                target=endpoint.ask,
                args=({str(n): Question("?", ()) for n in range(4)}, lambda name, reply: None),
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (server.most_at_once, len(server.asked)) == (4, 12)
