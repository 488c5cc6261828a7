from pathlib import Path

import pytest

from kinescribe.labeling.ids import read_ids
from kinescribe.schemas.clips import stable_id
from kinescribe.schemas.errors import InputError

A, B = stable_id("a"), stable_id("b")


def test_ids_are_read_in_their_order_each_once(tmp_path: Path):
    (tmp_path / "ids.txt").write_text(f"{B}\r\n\n  {A}\n{B}\n")
    assert read_ids(str(tmp_path / "ids.txt")) == [B, A]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no id"),
        (b"\n \n", "has no id"),
        (f"{A}\n../x\n".encode(), r"line 2: '\.\./x' is not the id of a triplet"),
        (f"{A},{B}\n".encode(), "line 1"),
        (b"\xff\xfe", "is not a text file"),
    ],
)
def test_what_is_no_list_of_ids_is_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_ids(str(tmp_path / "ids.txt"))


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"ids .*ids.txt cannot be read"):
        read_ids(str(tmp_path / "ids.txt"))
