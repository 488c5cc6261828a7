"""A proxy that does to chosen requests for an object store what networks and stores do to them."""

from __future__ import annotations

import random
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RESET = struct.pack("ii", 1, 0)
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
HANG_S = 300.0


@dataclass(frozen=True)
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Exchange(BaseHTTPRequestHandler):
    """One request from the client, to which a fault may do anything."""

    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def handle_any(self) -> None:
        self.request_body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        (self.server.fault_of(self) or pass_on)(self)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

    def upstream(self, rival: bytes | None = None) -> Reply:
        """What the server behind says to this request, or to a rival's who puts something else there."""
        connection = HTTPConnection(*self.server.upstream, timeout=120)
        try:
            if rival is None:
                headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                connection.request(self.command, self.path, self.request_body, headers)
            else:
                signed = ("Host", "Authorization", "X-Amz-Date")
                connection.request("PUT", self.path, rival, {name: self.headers[name] for name in signed})
            reply = connection.getresponse()
            return Reply(reply.status, reply.getheaders(), reply.read())
        finally:
            connection.close()

    def answer(self, reply: Reply, num_bytes: int | None = None) -> None:
        """Send the reply, or its headers and only the first bytes of its body."""
        self.send_response(reply.status)
        for name, value in reply.headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        length = dict(reply.headers).get("Content-Length") if self.command == "HEAD" else len(reply.body)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[:num_bytes])
            self.wfile.flush()

    def end_connection(self, reset: bool) -> None:
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def log_message(self, *_arguments: object) -> None:
        pass


Fault = Callable[[Exchange], None]


def pass_on(exchange: Exchange) -> None:
    exchange.answer(exchange.upstream())


def error(status: int, code: str) -> Fault:
    """The store refuses the request, and did nothing."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}, by a test</Message></Error>"
    reply = Reply(status, [("Content-Type", "application/xml")], body.encode())
    return lambda exchange: exchange.answer(reply)


def redirect(status: int, url: str) -> Fault:
    """The store sends the client elsewhere."""
    return lambda exchange: exchange.answer(Reply(status, [("Location", url + exchange.path)], b""))


def reset(exchange: Exchange) -> None:
    """The connection is reset before the store sees the request."""
    exchange.end_connection(reset=True)


def lose_reply(exchange: Exchange) -> None:
    """The store does what was asked, and its reply is lost."""
    exchange.upstream()
    exchange.end_connection(reset=True)


def reset_in_body(exchange: Exchange) -> None:
    """The connection is reset in the middle of the reply's body."""
    reply = exchange.upstream()
    exchange.answer(reply, len(reply.body) // 2)
    exchange.end_connection(reset=True)


def truncate_body(exchange: Exchange) -> None:
    """The reply ends in the middle of its body, as if that were all."""
    reply = exchange.upstream()
    exchange.answer(reply, len(reply.body) // 2)
    exchange.end_connection(reset=False)


def flip_a_bit(exchange: Exchange) -> None:
    """The reply's body is damaged on its way."""
    reply = exchange.upstream()
    body = bytearray(reply.body)
    body[len(body) // 2] ^= 1
    exchange.answer(Reply(reply.status, reply.headers, bytes(body)))


def hang(exchange: Exchange) -> None:
    """The store takes the request and gives no answer."""
    exchange.server.closing.wait(HANG_S)
    exchange.end_connection(reset=True)


def rival_first(body: bytes) -> Fault:
    """Another writer's object gets the name just before this request."""

    def fault(exchange: Exchange) -> None:
        assert exchange.upstream(rival=body).status == 200
        pass_on(exchange)

    return fault


class FaultProxy(ThreadingHTTPServer):
    """Passes requests on to a server at (host, port), but for those that a fault was set on."""

    daemon_threads = True

    def __init__(self, upstream: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.upstream = upstream
        self.closing = threading.Event()
        self.seen: list[str] = []
        self.num_faults = 0
        self.faults: Iterator[Fault | None] = iter(())
        self.lock = threading.Lock()
        self.matches: Callable[[str], bool] = lambda request: False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fail(self, matching: str, faults: Sequence[Fault | None]) -> None:
        """From now on, each request whose `METHOD /path` has this in it meets the next of the faults."""
        with self.lock:
            self.seen.clear()
            self.faults, self.matches = iter(faults), lambda request: matching in request

    def fail_at_random(self, faults: Sequence[Fault], share: float, seed: int) -> None:
        """From now on, this share of all requests meets a fault."""
        draw = random.Random(seed)

        def faults_or_none() -> Iterator[Fault | None]:
            while True:
                yield draw.choice(faults) if draw.random() < share else None

        with self.lock:
            self.faults, self.matches = faults_or_none(), lambda request: True

    def shutdown_request(self, request: socket.socket) -> None:
        # Not shut down first: that would end politely what is to be reset.
        self.close_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that gave up may hang up
            raise

    def fault_of(self, exchange: Exchange) -> Fault | None:
        request = f"{exchange.command} {exchange.path}"
        with self.lock:
            if not self.matches(request):
                return None
            self.seen.append(request)
            fault = next(self.faults, None)
            self.num_faults += fault is not None
            return fault


@contextmanager
def fault_proxy(upstream: tuple[str, int]) -> Iterator[FaultProxy]:
    """A proxy that serves from threads of this process while the context lasts."""
    with FaultProxy(upstream) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.closing.set()
            proxy.shutdown()
