import json
import shutil
from pathlib import Path

import pytest

from kinescribe.schemas.errors import ModelError
from kinescribe.training import checkpoints


def write(folder: Path, step: int, keep: int = 2) -> Path:
    written = checkpoints.hidden_folder(folder, step, "attempt")
    (written / "state").mkdir(parents=True)
    (written / "state" / "weights").write_text(f"weights of {step}")
    for rank in (0, 1):
        (written / "state" / f"rank_{rank}").write_text(f"optimizer of rank {rank}")
    checkpoints.publish(folder, step, written, keep)
    return checkpoints.checkpoint_folder(folder, step)


def test_the_newest_is_taken(tmp_path: Path):
    write(tmp_path, 90)
    path = write(tmp_path, 1000)
    assert checkpoints.newest(tmp_path, print) == (1000, path)


def test_without_any_there_is_none(tmp_path: Path):
    assert checkpoints.newest(tmp_path / "absent", print) is None


def test_an_unpublished_checkpoint_is_ignored(tmp_path: Path):
    path = write(tmp_path, 1)
    (checkpoints.hidden_folder(tmp_path, 2, "killed") / "state").mkdir(parents=True)
    assert checkpoints.newest(tmp_path, print) == (1, path)


def flip_a_bit(path: Path) -> None:
    weights = path / "state" / "weights"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)


def truncate(path: Path) -> None:
    weights = path / "state" / "weights"
    weights.write_bytes(weights.read_bytes()[:-1])


def garble(path: Path) -> None:
    (path / checkpoints.MARKER).write_text("{")


def empty(path: Path) -> None:
    (path / "state" / "weights").write_bytes(b"")


def lose_a_ranks_part(path: Path) -> None:
    (path / "state" / "rank_1").unlink()


def seal_with_a_list(path: Path) -> None:
    (path / checkpoints.MARKER).write_text("[]")


def seal_too_deep(path: Path) -> None:
    (path / checkpoints.MARKER).write_text("[" * 100_000)


def unseal(path: Path) -> None:
    (path / checkpoints.MARKER).unlink()


HARMS = [flip_a_bit, truncate, empty, lose_a_ranks_part, garble, seal_with_a_list, seal_too_deep, unseal]


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_checkpoint_is_skipped_with_a_message(tmp_path: Path, harm):
    older = write(tmp_path, 1)
    harm(write(tmp_path, 2))
    said: list[str] = []
    assert checkpoints.newest(tmp_path, said.append) == (1, older)
    assert len(said) == 1
    assert "step-00000002 is skipped" in said[0]


def test_names_in_a_seal_steer_no_terminal(tmp_path: Path):
    path = write(tmp_path, 1)
    seal = json.loads((path / checkpoints.MARKER).read_text())
    (path / checkpoints.MARKER).write_text(json.dumps({**seal, "\x1b[2J\n": ""}))
    said: list[str] = []
    with pytest.raises(ModelError):
        checkpoints.newest(tmp_path, said.append)
    assert said[0].isprintable()


def test_a_folder_that_only_begins_like_a_checkpoint_is_none(tmp_path: Path):
    path = write(tmp_path, 1)
    (tmp_path / "step-latest").mkdir()
    assert checkpoints.newest(tmp_path, print) == (1, path)


def test_if_all_checkpoints_are_damaged_the_run_does_not_start_over(tmp_path: Path):
    for step in (1, 2):
        flip_a_bit(write(tmp_path, step))
    said: list[str] = []
    with pytest.raises(ModelError, match=r"none of the 2 checkpoints .* is whole; restore one, or remove"):
        checkpoints.newest(tmp_path, said.append)
    assert len(said) == 2


def test_only_the_last_ones_are_kept(tmp_path: Path):
    (checkpoints.hidden_folder(tmp_path, 2, "killed") / "state").mkdir(parents=True)
    for step in (1, 2, 3):
        write(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_copies_of_checkpoints_by_users_are_kept(tmp_path: Path):
    shutil.copytree(write(tmp_path, 1), tmp_path / "step-00000001.old")
    path = write(tmp_path, 2, keep=1)
    assert checkpoints.newest(tmp_path, print) == (2, path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["step-00000001.old", "step-00000002"]


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path: Path):
    write(tmp_path, 1)
    flip_a_bit(write(tmp_path, 2))
    path = write(tmp_path, 2)
    assert checkpoints.newest(tmp_path, print) == (2, path)
