from pathlib import Path

import pytest

from tests.chaos import chaos


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_is_killed_at_random_and_resumed_loses_and_doubles_nothing(tmp_path: Path):
    tally = chaos(tmp_path, num=5, seed=1)
    assert tally.kills.total() == 5
    assert tally.is_clean, f"{tally} {tally.problems}"
