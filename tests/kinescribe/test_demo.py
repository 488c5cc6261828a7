from pathlib import Path

import pytest

from kinescribe.demo import run_demo
from tests.tiny_vlm import tiny_vlm

NUM_CLIPS = 3


@pytest.mark.ray
@pytest.mark.slow
def test_the_demo_accounts_for_every_clip_and_scores_every_pair(tmp_path: Path):
    tiny_vlm().save(tmp_path / "model")
    result = run_demo(tmp_path, NUM_CLIPS, str(tmp_path / "model"))
    assert result.check.ok, result.check.problems
    assert result.status.clips == NUM_CLIPS
    assert result.status.pending == result.status.rejected == 0
    assert sum(result.shown.values()) == result.status.triplets > 0
    assert "test-0-000000.mp4" in result.report.read_text()
