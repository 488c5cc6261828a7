from datetime import UTC

import boto3
from s3fs import S3FileSystem

from kinescribe.storage import objects, s3, stores


def test_dates_of_a_listing_and_of_a_header_are_those_that_the_aws_client_reads(bucket: str):
    objects.replace(f"{bucket}/a.txt", b"a")
    store, name = stores.arrow_filesystem(bucket)
    [listed] = store.handler.fs.ls(name, detail=True)
    asked = store.handler.fs.info(f"{name}/a.txt")
    client = boto3.client("s3")
    assert listed["LastModified"] == client.list_objects_v2(Bucket=name)["Contents"][0]["LastModified"]
    assert asked["LastModified"] == client.head_object(Bucket=name, Key="a.txt")["LastModified"]
    assert listed["LastModified"].tzinfo is UTC  # the client's own parser, which is slow, has another


def test_the_session_is_of_the_profile_that_the_store_was_made_with():
    store = S3FileSystem(profile="lab", skip_instance_cache=True, **s3.options())
    s3.set_up(store)
    assert store.session.profile == "lab"
