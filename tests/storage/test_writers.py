import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from kinescribe.schemas.errors import DatasetError
from kinescribe.storage import objects, writers
from kinescribe.storage.listing import list_files
from kinescribe.storage.uri import join
from kinescribe.storage.writers import STALE_S, Writer, writing


@pytest.fixture(params=["disk", "store"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of a dataset on a disk or in an object store."""
    if request.param == "disk":
        return str(tmp_path / "dataset")
    bucket: Any = request.getfixturevalue("bucket")
    return f"{bucket}/dataset"


@pytest.fixture
def other_process() -> Iterator[psutil.Process]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield psutil.Process(process.pid)
        process.kill()


def claims(dataset: str) -> list[dict[str, Any]]:
    names = [info.uri for info in list_files(join(dataset, "writers")) if info.uri.endswith(".json")]
    return [json.loads(objects.read_bytes(name)) for name in names]


def claim(dataset: str, name: str = "other", /, **changes: object) -> None:
    """Leave the claim of a run that began a minute ago on another machine, with these changes."""
    now = time.time()
    writer = replace(Writer("elsewhere", 7, now - 61, now - 60, now - 1), **changes)
    objects.replace(join(dataset, "writers", f"{name}.json"), json.dumps(asdict(writer)).encode())


def test_a_claim_lasts_as_long_as_its_run_and_says_who_it_is(dataset: str):
    with writing(dataset) as note_commit:
        (first,) = claims(dataset)
        assert (first["host"], first["process"]) == (platform.node(), os.getpid())
        note_commit()
    assert claims(dataset) == []


def test_a_claim_is_removed_when_its_run_fails(dataset: str):
    with pytest.raises(KeyboardInterrupt), writing(dataset):
        raise KeyboardInterrupt
    assert claims(dataset) == []


def test_a_second_run_is_refused_with_who_is_writing_unless_it_joins(dataset: str):
    claim(dataset, last_commit=time.time() - 30)
    with pytest.raises(DatasetError) as error, writing(dataset):
        pass
    assert "is being written by process 7 on elsewhere, which started 60 s ago" in str(error.value)
    assert "last commit 30 s ago" in str(error.value)
    assert "--join" in str(error.value)
    with writing(dataset, join=True):
        assert len(claims(dataset)) == 2
    assert len(claims(dataset)) == 1


def test_two_runs_of_one_process_see_each_other(dataset: str):
    with writing(dataset), pytest.raises(DatasetError), writing(dataset):
        pass
    with writing(dataset):
        pass


def test_of_two_runs_that_start_at_once_the_earlier_goes_on(dataset: str, monkeypatch: pytest.MonkeyPatch):
    def claim_meanwhile(since: float) -> None:
        listed = writers.list_files

        def list_before(uri: str) -> Iterator[Any]:
            found = list(listed(uri))
            monkeypatch.setattr(writers, "list_files", listed)
            claim(dataset, since=since)
            return iter(found)

        monkeypatch.setattr(writers, "list_files", list_before)

    claim_meanwhile(since=time.time() + 60)
    with writing(dataset):
        pass
    objects.remove(join(dataset, "writers", "other.json"))
    claim_meanwhile(since=time.time() - 60)
    with pytest.raises(DatasetError), writing(dataset):
        pass


def test_a_claim_that_is_not_renewed_ends_and_is_removed(dataset: str):
    claim(dataset, renewed=time.time() - STALE_S - 1)
    with writing(dataset):
        assert [writer["host"] for writer in claims(dataset)] == [platform.node()]
    assert claims(dataset) == []


def test_the_claim_of_a_run_that_died_meanwhile_is_removed_at_the_end(dataset: str):
    with writing(dataset):
        claim(dataset, renewed=time.time() - STALE_S - 1)
    assert claims(dataset) == []


def test_a_live_claim_is_kept(dataset: str):
    claim(dataset)
    with writing(dataset, join=True):
        pass
    assert [writer["host"] for writer in claims(dataset)] == ["elsewhere"]


def test_a_killed_run_on_this_host_blocks_nobody(dataset: str, other_process: psutil.Process):
    here = {"host": platform.node(), "process": other_process.pid}
    started = other_process.create_time()
    claim(dataset, **here, process_started=started)
    with pytest.raises(DatasetError), writing(dataset):
        pass
    claim(dataset, **here, process_started=started - 60)  # another process has its number by now
    with writing(dataset):
        pass
    claim(dataset, **here, process_started=started)
    other_process.kill()
    while other_process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    with writing(dataset):
        pass
    assert claims(dataset) == []


def test_a_claim_is_renewed_while_its_run_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writers, "RENEW_S", 0.05)
    dataset = str(tmp_path)
    with writing(dataset) as note_commit:
        (first,) = claims(dataset)
        assert first["last_commit"] is None
        note_commit()
        deadline = time.monotonic() + 20
        while (now := claims(dataset)[0])["last_commit"] is None:
            assert time.monotonic() < deadline
        assert now["renewed"] > first["renewed"]
        assert now["since"] == first["since"]


def test_other_files_claim_nothing(dataset: str):
    for name, data in {"note.txt": b"{}", "other.json": b"{}", "torn.json": b"{"}.items():
        objects.replace(join(dataset, "writers", name), data)
    with writing(dataset):
        pass


def test_the_run_that_gave_the_last_sign_of_life_is_named(dataset: str):
    now = time.time()
    for name, renewed in (("a", now - 50), ("b", now - 1), ("c", now - 30)):
        claim(dataset, name, host=f"host-{name}", renewed=renewed)
    with pytest.raises(DatasetError, match=r"is being written by .*host-b"), writing(dataset):
        pass


def test_files_that_are_no_claims_hide_none(dataset: str):
    objects.replace(join(dataset, "writers", "0.json"), b"{}")
    objects.replace(join(dataset, "writers", "1.json"), b"mine")
    claim(dataset, "2")
    with pytest.raises(DatasetError, match="elsewhere"), writing(dataset):
        pass
