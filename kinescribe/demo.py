"""The whole path on simulated clips, offline: draw, label, check, report, score against the truth.

Calls what the commands call; knows no more than they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kinescribe.display import counted, stdout_for_results

if TYPE_CHECKING:
    from collections import Counter

    from evaluation.labels import LabelScores
    from storage.audit import CheckResult, DatasetStatus

NUM_CLIPS = 40
SEED = 0


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What became of the demo's clips, how true their labels are, and where to look at them."""

    status: DatasetStatus
    check: CheckResult
    shown: Counter[str]
    scores: LabelScores
    report: Path


def run_demo(out: Path, num_clips: int = NUM_CLIPS, dynamics: str = "embedded") -> DemoResult:
    """Clips and their truth go to `out`, the dataset to `out/dataset`, the page to `out/report.html`."""
    from cluster.label import run_label
    from evaluation.clips import write_clips
    from evaluation.labels import compare, score
    from evaluation.report import write_report
    from schemas.config import LabelConfig, Resources
    from storage.audit import check

    with counted("drawing clips") as progress:
        write_clips(out, num_clips, "test", SEED, progress=progress)
    dataset, report = str(out / "dataset"), out / "report.html"
    with stdout_for_results():
        status = run_label(str(out / "clips"), dataset, LabelConfig(dynamics=dynamics), Resources())
    write_report(dataset, report)
    predictions, shown = compare(dataset, out)
    return DemoResult(status, check(dataset), shown, score(predictions), report)
