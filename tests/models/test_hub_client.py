"""A hub that lies: names of files, headers, sizes, redirects and replies of any form."""

import gzip
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from kinescribe.models import hub_client
from kinescribe.models.checkpoint_files import identify
from kinescribe.models.hub import hub_folder
from kinescribe.schemas.errors import ModelError
from tests.hub_server import COMMIT, Answer, HubServer, asked_instead, serving
from tests.tiny_vlm import tiny_vlm

OURS = f"me/ours@{COMMIT}"
FILE = {"type": "file", "size": 2, "oid": "a" * 40}
JSON = {"Content-Type": "application/json"}
TOKEN = "hf_canary"


@dataclass
class Liar(HubServer):
    """A hub that changes its listing, its answers for files, or those of its API."""

    added: tuple[Any, ...] = ()
    of_file: Callable[[int, dict[str, str], Any], Answer] = lambda status, headers, body: (
        status,
        headers,
        body,
    )
    of_api: Callable[[str], Answer] | None = None
    elsewhere: str = ""
    """The server to which files are redirected."""

    def tree(self, name: str) -> list[dict[str, object]]:
        return [*super().tree(name), *self.added]

    def answer(self, path: str) -> Answer:
        if path.startswith("/api/") and self.of_api is not None:
            self.asked.append(path)
            return self.of_api(f"{self.url}{path}?page={len(self.asked)}")
        try:
            reply = super().answer(path)
        except (OSError, ValueError):
            reply = 200, {"ETag": '"e"', "X-Repo-Commit": COMMIT}, b"{}"
        if path.startswith("/api/"):
            return reply
        if self.elsewhere:
            return 302, {**reply[1], "Location": f"{self.elsewhere}{path}"}, b""
        return self.of_file(*reply)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("ours")
    tiny_vlm().save(folder)
    return {"me/ours": folder}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, deep enough that a path with some `..` is still in `tmp_path`."""
    home = tmp_path / "a" / "b" / "c" / "d" / "home"
    home.mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(home / ".agent_harnesses.json"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return home


def refused(hub: HubServer, home: Path, name: str = OURS) -> str:
    """The message of one line with which the model is refused; nothing is written but the cache."""
    with asked_instead(hub, home / "hub"), pytest.raises(ModelError) as error:
        identify(name)
    written = [path for path in home.parents[4].rglob("*") if path.is_file()]
    assert [path for path in written if not path.is_relative_to(home / "hub")] == []
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    return str(error.value)


@pytest.mark.parametrize(
    "path",
    [
        "../../../../evil.json",
        "/{}/evil.json",
        "a\0b.json",
        "..\\evil.json",
        "codec/../../evil.json",
        "x" * 300,
        3,
        None,
        ["a"],
    ],
)
def test_a_name_in_the_listing_cannot_leave_the_cache(repository: dict[str, Path], home: Path, path: Any):
    name = path.replace("{}", str(home.parent)) if isinstance(path, str) else path
    name = f"{name}.json" if isinstance(name, str) and not name.endswith(".json") else name
    assert "cannot be downloaded" in refused(Liar(repository, added=({**FILE, "path": name},)), home)


@pytest.mark.parametrize("header", ["ETag", "X-Linked-ETag", "X-Repo-Commit"])
@pytest.mark.parametrize("value", ["../../../../../evil", "/tmp/evil-kinescribe", "a/b", ""])
def test_a_header_that_names_a_file_elsewhere_is_refused(
    repository: dict[str, Path], home: Path, header: str, value: str
):
    hub = Liar(
        repository, of_file=lambda status, headers, body: (status, {**headers, header: f'"{value}"'}, body)
    )
    assert f"as {header}, which isn't a name" in refused(hub, home)
    assert not Path("/tmp/evil-kinescribe").exists()


ENDLESS = itertools.repeat(b"[" * 65536)
FILES: dict[str, Callable[[int, dict[str, str], bytes], Answer]] = {
    "endless": lambda status, headers, body: (status, headers, itertools.repeat(b"x" * 65536)),
    "packed": lambda status, headers, body: (
        status,
        {**headers, "Content-Encoding": "gzip"},
        gzip.compress(body, mtime=0),
    ),
    "longer than it says": lambda status, headers, body: (status, {**headers, "Content-Length": "3"}, body),
    "of no number": lambda status, headers, body: (status, {**headers, "Content-Length": "x"}, body),
    "of another commit": lambda status, headers, body: (status, {**headers, "X-Repo-Commit": "f" * 40}, body),
    "of a huge size": lambda status, headers, body: (status, {**headers, "X-Linked-Size": "9" * 15}, body),
    "on this disk": lambda status, headers, body: (302, {**headers, "Location": "file:///etc/passwd"}, b""),
    "nowhere": lambda status, headers, body: (302, {**headers, "Location": "http://[::x"}, b""),
}


@pytest.mark.filterwarnings("ignore:Not enough free disk space")
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_the_hub_lies_about_is_refused(repository: dict[str, Path], home: Path, name: str):
    refused(Liar(repository, of_file=FILES[name]), home)


def drip() -> Iterator[bytes]:
    while True:
        time.sleep(0.2)
        yield b" "


LISTINGS: dict[str, Callable[[str], Answer]] = {
    "endless": lambda url: (200, JSON, ENDLESS),
    "slow": lambda url: (200, JSON, drip()),
    "pages without an end": lambda url: (200, JSON | {"Link": f'<{url}>; rel="next"'}, b"[]"),
    "a page on this disk": lambda url: (200, JSON | {"Link": '<file:///etc/passwd>; rel="next"'}, b"[]"),
    "deep": lambda url: (200, JSON, b"[" * 1_000_000),
    "packed": lambda url: (
        200,
        JSON | {"Content-Encoding": "gzip"},
        gzip.compress(b" " * (1 << 28), mtime=0),
    ),
    "no JSON": lambda url: (200, JSON, b"<html>"),
    "a number": lambda url: (200, JSON, b"3"),
    "numbers": lambda url: (200, JSON, b"[1, 2]"),
    "an object": lambda url: (200, JSON, b'{"a": 1}'),
    "a commit with colours": lambda url: (200, JSON, json.dumps({"id": "a", "sha": "\x1b[31m"}).encode()),
    "on this disk": lambda url: (302, {"Location": "file:///etc/passwd"}, b""),
}


@pytest.mark.parametrize("name", [OURS, "me/ours"])
@pytest.mark.parametrize("listing", LISTINGS)
def test_a_listing_of_any_form_is_refused_in_bounded_time_and_memory(
    repository: dict[str, Path], home: Path, listing: str, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hub_client, "LISTING_S", 3.0)
    monkeypatch.setattr(hub_client, "MAX_REPLIES", 100)
    started = time.monotonic()
    assert "\x1b" not in refused(Liar(repository, of_api=LISTINGS[listing]), home, name)
    assert time.monotonic() - started < 30


def test_the_token_is_not_sent_to_another_host_of_a_file(repository: dict[str, Path], home: Path):
    with serving(Liar(repository)) as other:
        hub = Liar(repository)
        hub.elsewhere = other.url.replace("127.0.0.1", "localhost")
        with asked_instead(hub, home / "hub"):
            assert identify(OURS) == identify(str(repository["me/ours"]))
    assert any(TOKEN in headers.get("authorization", "") for headers in hub.seen)
    assert other.seen
    assert [headers for headers in other.seen if TOKEN in str(headers)] == []


def test_the_hub_is_not_asked_which_environment_variables_to_tell_it(repository: dict[str, Path], home: Path):
    hub = Liar(repository)
    with asked_instead(hub, home / "hub"):
        identify(OURS)
    assert [path for path in hub.asked if "me/ours" not in path] == []
    assert [path.name for path in home.iterdir()] == ["hub"]


def test_a_password_in_the_hubs_address_is_refused_and_not_repeated(
    repository: dict[str, Path], home: Path, monkeypatch: pytest.MonkeyPatch
):
    with asked_instead(HubServer(repository), home / "hub"):
        hub_folder.cache_clear()
        monkeypatch.setattr(constants, "ENDPOINT", "http://me:hunter2@127.0.0.1:9")
        for name in (OURS, "me/ours"):
            with pytest.raises(ModelError, match="HF_ENDPOINT must not contain a password") as error:
                identify(name)
            assert "hunter2" not in str(error.value)
