"""The part of a model hub's API that huggingface_hub asks for a snapshot, over real HTTP, on a folder."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

from kinescribe.models.hub import hub_folder

COMMIT = "0123456789abcdef" * 2 + "01234567"


Answer = tuple[int, dict[str, str], bytes | Iterator[bytes]]


@dataclass
class HubServer:
    """One commit, `main`, of each repository by its name; `gated` ones give their files to nobody."""

    repositories: dict[str, Path]
    gated: frozenset[str] = frozenset()
    url: str = ""
    asked: list[str] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    """The headers of the requests."""

    def answer(self, path: str) -> Answer:
        """Status, headers and body, in pieces if it has no length."""
        self.asked.append(path)
        of_api = path.startswith("/api/models/")
        parts = path.removeprefix("/api/models" if of_api else "").strip("/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        if name not in self.repositories:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if rest and rest[1] not in ("main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if of_api:
            is_tree = rest[:1] == ["tree"]
            return _json(self.tree(name) if is_tree else {"id": name, "sha": COMMIT, "siblings": []})
        if name in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        data = self.repositories[name].joinpath(*rest[2:]).read_bytes()
        return 200, {"ETag": f'"{_oid(data)}"', "X-Repo-Commit": COMMIT}, data

    def tree(self, name: str) -> list[dict[str, object]]:
        folder = self.repositories[name]
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return [
            {
                "type": "file",
                "path": path.relative_to(folder).as_posix(),
                "size": path.stat().st_size,
                "oid": _oid(path.read_bytes()),
            }
            for path in files
        ]


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _json(value: object) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


@contextmanager
def asked_instead(server: HubServer, cache: Path) -> Iterator[HubServer]:
    """The server is the hub of this process while the block runs, with `cache` for what it gives."""
    hub_folder.cache_clear()
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("{repo_id}")
    with serving(server), pytest.MonkeyPatch.context() as patch:
        # As the library reads HF_ENDPOINT and HF_HUB_CACHE, once, when it is imported.
        patch.setattr(constants, "ENDPOINT", server.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "".join([server.url, "/", *template[1:]]))
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server
    hub_folder.cache_clear()


@contextmanager
def serving(server: HubServer) -> Iterator[HubServer]:
    """The server at its `url` while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.seen.append(dict(self.headers))
            status, headers, body = server.answer(unquote(urlsplit(self.path).path))
            self.send_response(status)
            length = {"Content-Length": str(len(body))} if isinstance(body, bytes) else {}
            for header, value in {**length, **headers}.items():
                self.send_header(header, value)
            self.end_headers()
            if self.command == "GET":
                with suppress(OSError):  # the other side may have had enough
                    for piece in [body] if isinstance(body, bytes) else body:
                        self.wfile.write(piece)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
