import pytest

from kinescribe.storage import credentials


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("s3://key:hunter2@bucket/a", "s3://***@bucket/a"),
        ("no answer of https://hunter2@host/v1", "no answer of https://***@host/v1"),
        ("https://host/a?sig=hunter2&b=1#top", "https://host/a?***&***#top"),
        ("abfs://clips@account/a, judge@http://localhost:8000/v1", None),
        ("what? a/b@c:d", None),
    ],
)
def test_only_secrets_are_removed_from_a_text(text: str, redacted: str | None):
    assert credentials.redact(text) == (redacted or text)
