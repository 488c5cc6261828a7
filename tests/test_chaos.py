from pathlib import Path

import pytest

from tests.chaos import chaos


@pytest.mark.slow
@pytest.mark.long  # CI runs `make chaos`
@pytest.mark.timeout(1200)
def test_killed_and_resumed_runs_lose_and_double_nothing(tmp_path: Path):
    tally = chaos(tmp_path, num=5, seed=1)
    assert tally.kills.total() == 5
    assert tally.is_clean, f"{tally} {tally.problems}"
