"""A small OpenAI-compatible server over real HTTP that answers as it is told and keeps what it was asked."""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What the server sends: the model's `text` in a completion, or a whole `body` instead."""

    text: str = ""
    finish_reason: str | None = None
    logprobs: Sequence[float] | None = None
    status: int = 200
    body: bytes | None = None
    delay_s: float = 0.0


@dataclass
class JudgeServer:
    """Sends `first` in order, then `always`."""

    first: Sequence[Answer] = ()
    always: Answer = field(default_factory=Answer)
    url: str = ""
    models: Sequence[str] | None = None
    """What it lists; None: it has no list."""
    root: str | None = None
    """Where it says the models come from."""
    port: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self.lock, self.waiting, self.at_once = threading.Lock(), deque(self.first), 0

    def answer(self, request: dict[str, Any]) -> Answer:
        with self.lock:
            self.asked.append(request)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            answer = self.waiting.popleft() if self.waiting else self.always
        time.sleep(answer.delay_s)
        with self.lock:
            self.at_once -= 1
        return answer


def completion(answer: Answer) -> bytes:
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": answer.text}}
    choice["finish_reason"] = answer.finish_reason
    if answer.logprobs is not None:
        choice["logprobs"] = {"content": [{"token": "a", "logprob": value} for value in answer.logprobs]}
    return json.dumps({"choices": [choice]}).encode()


@contextmanager
def serving(server: JudgeServer) -> Iterator[JudgeServer]:
    """The server at its `url` while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            answer = server.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = completion(answer) if answer.body is None else answer.body
            try:
                self.send_response(answer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Retry-After", "0.01")
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                pass  # the client gave up on a slow answer

        def do_GET(self) -> None:
            assert self.path == "/v1/models"
            body = json.dumps(
                {"data": [{"id": name, "root": server.root} for name in server.models or ()]}
            ).encode()
            self.send_response(404 if server.models is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", server.port), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
