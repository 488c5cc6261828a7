"""Whatever a stranger's dataset holds, each command gives an answer or an error in words."""

import tarfile
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinescribe.schemas.errors import UserError
from tests.forged_datasets import COMMANDS, forged


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forged")


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_forged_dataset_gives_answers_or_errors_in_words(place: Path, data: st.DataObject):
    dataset = forged(place / "inside", data.draw)
    before = getrusage(RUSAGE_SELF).ru_maxrss
    for command in COMMANDS.values():
        with suppress(UserError):
            command(dataset, place / "inside")
    assert getrusage(RUSAGE_SELF).ru_maxrss - before < 1 << 20  # a gibibyte
    assert [path.name for path in place.iterdir()] == ["inside"]
    for tar in (place / "inside").glob("web/*.tar"):
        with tarfile.open(tar) as members:
            assert all("/" not in member and not member.startswith(".") for member in members.getnames())
