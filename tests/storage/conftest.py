"""A folder on each kind of store."""

import uuid

import pytest


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request: pytest.FixtureRequest) -> str:
    """A folder that does not exist yet, on each kind of store."""
    if request.param == "s3":
        return request.getfixturevalue("bucket") + "/some/folder"
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/folder"
    return str(request.getfixturevalue("tmp_path") / "some" / "folder")
