import pytest

from kinescribe.storage import credentials


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("s3://key:hunter2@bucket/a", "s3://***@bucket/a"),
        ("s3://key:hun/ter/2@bucket/a", "s3://***@bucket/a"),
        ("no answer of https://hunter2@host/v1", "no answer of https://***@host/v1"),
        ("https://host/a?sig=hunter2&b=1#top", "https://host/a?***&***#top"),
        ("abfs://clips@account/a, judge@http://localhost:8000/v1", None),
        ("m@http://localhost:8000/v1/a@b", None),
        ("s3://bucket/10:30@home.mp4", None),
        ("what? a/b@c:d", None),
    ],
)
def test_only_secrets_are_removed_from_a_text(text: str, redacted: str | None):
    assert credentials.redact(text) == (redacted or text)


@pytest.mark.parametrize(
    ("uri", "holds"),
    [
        ("s3://key:hun/ter/2@bucket/a", True),
        ("s3://key:2/hunter@bucket/a", False),  # a port and a path
        ("m@http://localhost:8000/v1/a@b", False),
        ("s3://bucket/10:30@home.mp4", False),
    ],
)
def test_a_key_with_slashes_is_one_and_a_port_is_none(uri: str, holds: bool):
    assert credentials.holds_credentials(uri) is holds
