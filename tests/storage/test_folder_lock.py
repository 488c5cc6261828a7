import os
from pathlib import Path

import pytest

from kinescribe.storage.folder_lock import folder_lock


def test_one_holds_the_lock_at_a_time(tmp_path):
    with folder_lock(tmp_path), pytest.raises(BlockingIOError), folder_lock(tmp_path):
        pass
    with folder_lock(tmp_path) as opened:
        assert os.fstat(opened).st_ino == tmp_path.stat().st_ino


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["fifo", "link", "file", "folder of another user"])
def test_what_another_user_could_put_there_is_not_opened(tmp_path: Path, kind: str, monkeypatch):
    path = tmp_path / "kinescribe.abcd1234"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path)
    elif kind == "file":
        path.touch()
    else:
        path.mkdir()
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(OSError), folder_lock(path):
        pass
