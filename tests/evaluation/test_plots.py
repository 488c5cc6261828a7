from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinescribe.evaluation.aurora_scores import AuroraScores, Spread
from kinescribe.evaluation.human_study_scores import CriterionScores, StudyScores
from kinescribe.evaluation.label_accuracy import Prediction, Rate, score
from kinescribe.evaluation.plots import require_plot_file, write_plot
from kinescribe.evaluation.preference import Preferences
from kinescribe.evaluation.world import BestOfN, Mean, Score, WorldScores
from kinescribe.schemas.errors import ConfigError
from kinescribe.schemas.estimate import CostPlan, Estimate, Interval, Offer
from kinescribe.simulation.actions import parse


def labels(path: Path) -> None:
    truths = [parse("move the red ball left"), parse("pan left")]
    predictions = [Prediction(truth, "pan left", -0.1) for truth in truths if truth]
    write_plot(score(predictions), path)


def world(path: Path) -> None:
    by_action = {name: Score(5.0, 6.0, Mean(4.0, 0.5, 9), 0.1) for name in ("all", "object", "move")}
    write_plot(WorldScores(dict.fromkeys(("model", "copy", "codec"), by_action)), path)


def best_of_n(path: Path) -> None:
    means = {1: Mean(3.0, 0.1, 9), 2: Mean(3.5, None, 1)}
    write_plot(BestOfN({"verified": means, "oracle": means}), path)


def preferences(path: Path) -> None:
    write_plot(Preferences("world", 9, {"swapped": Rate(9, 9), "random action": Rate(0, 0)}), path)


def aurora(path: Path) -> None:
    metrics = {"judge": Spread(3.0, 0.2, 9), "l1": Spread(0.1, None, 9)}
    rows = {
        "model": {"all": metrics, "ag": metrics},
        "copy": {"all": metrics, "ag": {"l1": Spread(0.0, None, 9)}},
    }
    write_plot(AuroraScores(rows, {}, []), path)


def study(path: Path) -> None:
    means = {"ours": Mean(0.5, 0.1, 9), "theirs": Mean(-0.5, None, 1)}
    criteria = {name: CriterionScores(means, [], None) for name in ("action", "all")}
    write_plot(StudyScores(1, 9, 0, criteria), path)


def plan(path: Path) -> None:
    stage_s = {"decode": 3600.0, "label": 7200.0, "write": 36.0}
    estimate = Estimate("run", 9, 1, 2, 0.0, Interval(9, 8, 10), 1000, stage_s, False, 0, 0, 3.0)
    offers = (Offer("big", True, 2, 0.5, 1.0, "label"), Offer("big", False, 1, 1.0, 2.0, "label"))
    write_plot(CostPlan(estimate, 1.0, "label", offers, {}), path)


def short_plan(path: Path) -> None:
    stage_s = {"decode": 3.0, "label": 7.5, "write": 0.1}
    estimate = Estimate("run", 9, 1, 2, 0.0, Interval(9, 8, 10), 1000, stage_s, False, 0, 0, 3.0)
    write_plot(CostPlan(estimate, 0.01, "label", (), {}), path)


@pytest.mark.parametrize("draw", [labels, world, best_of_n, preferences, aurora, study, plan, short_plan])
def test_a_plot_is_a_picture_with_something_on_it(draw: Callable[[Path], None], tmp_path: Path):
    draw(tmp_path / "plot.png")
    pixels = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB"))
    assert pixels.shape[0] > 200
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize("name", ["plot.jpg", "plot", "nowhere/plot.png", "folder.png"])
def test_a_plot_that_cannot_be_written_is_refused(name: str, tmp_path: Path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ConfigError, match="--plot"):
        require_plot_file(tmp_path / name)


@pytest.mark.parametrize("name", ["plot.png", "plot.pdf", "plot.svg"])
def test_a_plot_replaces_a_plot_and_no_other_picture(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(b"a photograph")
    with pytest.raises(ConfigError, match="Kinescribe did not draw it; name another file, or remove it"):
        require_plot_file(tmp_path / name)
    best_of_n(tmp_path / name)
    require_plot_file(tmp_path / name)
