from pathlib import Path

import pytest

from kinescribe.schemas.errors import UserError
from kinescribe.storage import listing, objects, uri


def test_an_empty_name_is_refused():
    for use in (uri.absolute, objects.exists, lambda name: uri.join(name, "run.json")):
        with pytest.raises(UserError, match="empty name"):
            use("")


def test_a_path_at_home_is_the_same_wherever_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("~/data/a.bin", "file://~/data/a.bin"):
        assert uri.absolute(name) == f"{tmp_path}/home/data/a.bin"
    assert objects.create("~/data/a.bin", b"x")
    assert objects.read_bytes("~/data/a.bin") == b"x"
    assert [info.size_bytes for info in listing.list_files("~/data")] == [1]
    assert (tmp_path / "home" / "data" / "a.bin").is_file()
    assert not (tmp_path / "~").exists()
    assert uri.absolute("~a") == f"{tmp_path}/~a"
