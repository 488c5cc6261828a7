import httpx2
import pytest
from gcsfs.retry import HttpError

from kinescribe.schemas.errors import StoreError, UserError
from kinescribe.storage import objects, stores


@pytest.mark.parametrize("bad", ["http://host/a.mp4", "zip://a.mp4::s3://b/c.zip", "simplecache::s3://b/a"])
def test_only_plain_stores_are_opened(bad: str):
    with pytest.raises(UserError, match="cannot be opened"):
        objects.read_bytes(bad)


@pytest.mark.parametrize("bad", ["s3://key:hunter2@bucket/a", "s3://bucket/a?X-Amz-Signature=hunter2"])
def test_a_url_with_credentials_is_refused_without_repeating_them(bad: str):
    for use in (
        objects.read_bytes,
        objects.is_file,
        lambda name: objects.create(name, b""),
        stores.arrow_filesystem,
    ):
        with pytest.raises(UserError, match="must not contain a password or a signature") as refused:
            use(bad)
        assert "hunter2" not in str(refused.value)


def test_two_stars_match_any_number_of_folders():
    matches = stores.glob_pattern("s3://b/**/x*.mp4").match
    assert matches("s3://b/x.mp4")
    assert matches("s3://b/c/d/x1.mp4")
    assert not matches("s3://b/c/d/y.mp4")


@pytest.mark.parametrize(
    ("uri", "error", "remedy"),
    [
        ("hf://datasets/org/name/run.json", httpx2.ConnectError("Name or service not known"), "HF_TOKEN"),
        ("gs://bucket/run.json", HttpError({"code": 403, "message": "no access"}), "GOOGLE_APPLICATION"),
    ],
)
def test_an_error_of_a_stores_client_says_how_the_store_is_told_who_asks(
    monkeypatch: pytest.MonkeyPatch, uri: str, error: Exception, remedy: str
):
    def unconnected(uri: str, **options: object) -> tuple[None, str]:
        return None, uri

    monkeypatch.setattr(stores.fsspec, "url_to_fs", unconnected)
    with (
        pytest.raises(StoreError, match=f"{uri}: {error}; .*{uri[:2]}:// takes {remedy}"),
        stores.open_store(uri),
    ):
        raise error
