"""Faults of an object store, which a proxy in front of a real server makes; nothing is patched."""

import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from kinescribe.schemas.clips import stable_id
from kinescribe.schemas.errors import StoreError
from kinescribe.storage import listing, objects, uri
from kinescribe.storage.shards import committed_units
from tests.fault_proxy import (
    Fault,
    FaultProxy,
    error,
    fault_proxy,
    flip_a_bit,
    hang,
    lose_reply,
    redirect,
    reset,
    reset_in_body,
    rival_first,
    truncate_body,
)

ROOT = Path(__file__).parents[1]
DATA = bytes(range(256)) * 4000
PASSING = {
    "500": error(500, "InternalError"),
    "503": error(503, "ServiceUnavailable"),
    "throttled": error(503, "SlowDown"),
    "too many requests": error(429, "TooManyRequestsException"),
    "reset": reset,
}
TORN = {"reset in its body": reset_in_body, "truncated": truncate_body}


@pytest.fixture
def direct(s3_endpoint: str):
    """The store without the proxy."""
    return boto3.client("s3", endpoint_url=s3_endpoint)


def stored(direct, name: str) -> bytes:
    bucket, _, key = name.removeprefix("s3://").partition("/")
    return direct.get_object(Bucket=bucket, Key=key)["Body"].read()


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_a_fault_that_passes_is_not_noticed(fault: Fault, proxy: FaultProxy, bucket: str, direct):
    name = uri.join(bucket, "a.bin")
    proxy.fail("PUT /", [fault, fault])
    assert objects.create(name, DATA)
    assert len(proxy.seen) == 3
    assert stored(direct, name) == DATA
    proxy.fail("GET /", [fault])
    assert objects.read_bytes(name) == DATA
    assert len(proxy.seen) == 2
    proxy.fail("list-type", [fault])
    assert [info.uri for info in listing.list_files(bucket)] == [name]
    assert len(proxy.seen) == 2


def test_units_are_listed_whatever_their_ids_begin_with_and_nothing_else_is(proxy: FaultProxy, bucket: str):
    ids = {f"{digit:x}{stable_id('unit', digit)}" for digit in range(16)}
    for name in (*(f"{id_}.parquet" for id_ in ids), "foreign.txt", "0/below.parquet"):
        objects.create(uri.join(bucket, "dataset", "data", name), b"x")
    proxy.fail("list-type", [error(503, "SlowDown")] * 3)
    assert committed_units(uri.join(bucket, "dataset")) == ids
    assert committed_units(uri.join(bucket, "none yet")) == set()
    with pytest.raises(StoreError, match="name an existing bucket"):
        committed_units("s3://no-such-bucket/dataset")


@pytest.mark.parametrize("fault", TORN.values(), ids=TORN.keys())
def test_a_reply_that_is_cut_short_is_read_whole(fault: Fault, proxy: FaultProxy, bucket: str):
    name = uri.join(bucket, "a.bin")
    objects.create(name, DATA)
    for read in (objects.read_bytes, lambda name: objects.read_tail(name, 100_000)):
        proxy.fail("GET /", [fault])
        found = read(name)
        assert found
        assert DATA.endswith(found)
        assert len(found) in (len(DATA), 100_000)
        assert len(proxy.seen) == 2
    proxy.fail("GET /", [fault])
    with objects.local_copy(name) as copy:
        assert copy.read_bytes() == DATA
    assert len(proxy.seen) == 2


def test_a_damaged_reply_is_not_accepted(proxy: FaultProxy, bucket: str):
    name = uri.join(bucket, "a.bin")
    objects.create(name, DATA)
    proxy.fail("GET /", [flip_a_bit] * 99)
    with pytest.raises(StoreError):
        objects.read_bytes(name)
    with pytest.raises(StoreError), objects.local_copy(name):
        pass


def test_a_create_whose_reply_is_lost_has_won(proxy: FaultProxy, bucket: str, direct):
    name = uri.join(bucket, "a.bin")
    proxy.fail("PUT /", [lose_reply])
    assert objects.create(name, DATA)
    assert len(proxy.seen) == 2
    assert stored(direct, name) == DATA


def test_a_create_after_a_rivals_has_lost(proxy: FaultProxy, bucket: str, direct):
    name = uri.join(bucket, "a.bin")
    proxy.fail("PUT /", [rival_first(b"rival")])
    assert not objects.create(name, DATA)
    assert stored(direct, name) == b"rival"


def test_a_create_that_meets_a_rivals_is_tried_again(proxy: FaultProxy, bucket: str, direct):
    name = uri.join(bucket, "a.bin")
    proxy.fail("PUT /", [error(409, "ConditionalRequestConflict")] * 2)
    assert objects.create(name, DATA)
    assert stored(direct, name) == DATA


@pytest.mark.slow
def test_an_object_in_many_parts_is_whole_though_the_last_reply_is_lost(
    proxy: FaultProxy, bucket: str, direct
):
    large, name = bytes(101 << 20), uri.join(bucket, "large.bin")
    proxy.fail("POST /", [None, lose_reply])
    assert objects.create(name, large)
    assert len(proxy.seen) == 3
    assert stored(direct, name) == large
    assert not objects.create(name, DATA)


@pytest.mark.slow
def test_an_upload_that_is_given_up_is_not_seen(proxy: FaultProxy, bucket: str, direct):
    name = uri.join(bucket, "large.bin")
    proxy.fail("partNumber=2", [error(403, "AccessDenied")])
    with pytest.raises(StoreError, match=r"large\.bin: .*AccessDenied, by a test"):
        objects.create(name, bytes(101 << 20))
    assert not objects.exists(name)
    assert list(listing.list_files(bucket)) == []
    assert "Uploads" not in direct.list_multipart_uploads(Bucket=bucket.removeprefix("s3://"))


@pytest.mark.slow
@pytest.mark.long
def test_a_store_that_stays_down_is_an_error_with_a_remedy(proxy: FaultProxy, bucket: str):
    proxy.fail("PUT /", [error(500, "InternalError")] * 99)
    with pytest.raises(StoreError, match=r"a\.bin: .*InternalError, by a test.* run the same command again"):
        objects.create(uri.join(bucket, "a.bin"), DATA)
    assert len(proxy.seen) == 8


@pytest.mark.slow
@pytest.mark.long
def test_a_store_that_gives_no_answer_is_asked_again(proxy: FaultProxy, bucket: str, direct):
    name = uri.join(bucket, "a.bin")
    proxy.fail("PUT /", [hang])
    assert objects.create(name, DATA)
    assert len(proxy.seen) == 2
    assert stored(direct, name) == DATA


def test_without_credentials_the_error_says_how_to_give_them():
    nobody = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nobody |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"}
    command = [sys.executable, "-m", "kinescribe", "status", "s3://nobodys-bucket/dataset"]
    ended = subprocess.run(command, cwd=ROOT, env=nobody, capture_output=True, text=True, timeout=800)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: s3://nobodys-bucket/dataset/run.json: Unable to locate")
    assert "AWS_ACCESS_KEY_ID" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_is_not_followed(status: int, proxy: FaultProxy, bucket: str):
    name = uri.join(bucket, "a.bin")
    objects.create(name, DATA)
    with fault_proxy(proxy.upstream) as elsewhere:
        proxy.fail("GET /", [redirect(status, elsewhere.url)] * 20)
        elsewhere.fail("/", [])
        with pytest.raises((StoreError, FileNotFoundError)):
            objects.read_bytes(name)
    assert proxy.seen
    assert elsewhere.seen == []
