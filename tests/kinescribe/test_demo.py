from pathlib import Path

import pytest

from kinescribe.demo import run_demo

NUM_CLIPS = 3


@pytest.mark.ray
@pytest.mark.slow
def test_the_demo_accounts_for_every_clip_and_runs_the_whole_loop(tmp_path: Path):
    result = run_demo(tmp_path, NUM_CLIPS, num_cases=2)
    assert result.check.ok, result.check.problems
    assert result.status.clips == NUM_CLIPS
    assert result.status.pending == result.status.rejected == 0
    assert sum(result.shown.values()) == result.status.triplets > 0
    assert result.chosen.exact.total <= result.status.triplets // 2
    assert result.before.judge["verified"].keys() == result.after.judge["verified"].keys() == {1, 8}
    page = result.report.read_text()
    assert "test-0-000000.mp4" in page
    assert "Imagined" in page
