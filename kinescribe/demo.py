"""The whole method on simulated clips, offline: label, select, fine-tune a world model, imagine, judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kinescribe.display import progress_bar, stdout_for_results
from kinescribe.schemas.rendering import Table, tables_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from kinescribe.evaluation.label_accuracy import LabelScores
    from kinescribe.evaluation.world import BestOfN
    from kinescribe.storage.audit import CheckResult, DatasetStatus

DYNAMICS, WORLD = "embedded", "embedded-world"
NUM_CLIPS = 40
NUM_CASES = 100
NUM_SHOWN = 10
NUM_SAMPLES = 8
STEPS = 40
SEED = 0


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The outcomes of the demo's clips, the accuracy of their labels, and the world model's scores."""

    status: DatasetStatus
    check: CheckResult
    shown: Counter[str]
    scores: LabelScores
    chosen: LabelScores
    """The accuracy of the likelier half of the labels, on which the world model is fine-tuned."""
    before: BestOfN
    after: BestOfN
    """The world model's judged images, before and after the fine-tune."""
    report: Path

    def tables(self) -> Iterable[Table]:
        """The whole loop: the dataset, its labels, and the world model before and after its fine-tune."""
        for result in (self.status, self.check):
            yield from tables_of(result)
        yield Table([(what, f"{count:,}") for what, count in self.shown.items()], "pairs by what they show")
        yield from self.scores.tables()
        rates = {"all labels": self.scores.exact, "the likelier half": self.chosen.exact}
        rows = [
            (name, f"{rate.share:.3f}", f"{rate.hits:,} of {rate.total:,}") for name, rate in rates.items()
        ]
        yield Table(rows, "exact actions")
        judged = {
            "before the fine-tune": self.before.judge["verified"],
            "after": self.after.judge["verified"],
            "after, if the judge chose": self.after.judge["oracle"],
        }
        counts = self.after.judge["verified"]
        yield Table(
            [(name, *map(str, means.values())) for name, means in judged.items()],
            f"world model, judged 0 to 10 in {next(iter(counts.values())).num} scenes "
            "(a copy of the source gets 0)",
            ("best of", *map(str, counts)),
        )


def run_demo(out: Path, num_clips: int = NUM_CLIPS, num_cases: int = NUM_CASES) -> DemoResult:
    """Write clips and their truth to `out`, the dataset to `out/dataset`, the page to `out/report.html`."""
    from kinescribe.cluster.label import run_label
    from kinescribe.evaluation.label_accuracy import compare, score
    from kinescribe.evaluation.world import imagined_steps, score_best_of_n
    from kinescribe.models.registry import load_model
    from kinescribe.reports.report import write_report
    from kinescribe.schemas.config import LabelConfig, Resources
    from kinescribe.simulation.clips import write_clips
    from kinescribe.storage.audit import check

    with progress_bar("drawing clips") as progress:
        write_clips(out, num_clips, "test", SEED, progress=progress)
    dataset, report = str(out / "dataset"), out / "report.html"
    with stdout_for_results():
        status = run_label(str(out / "clips"), dataset, LabelConfig(dynamics=DYNAMICS), Resources())
    predictions, shown = compare(dataset, out)
    chosen = _choose_half(out, dataset, status.triplets)
    models = {"before": load_model(WORLD), "after": load_model(str(_fine_tune(out, dataset)))}
    judge = load_model(DYNAMICS)
    judged: dict[str, BestOfN] = {}
    for name, model in models.items():
        with progress_bar(f"judging the world model {name}") as progress:
            judged[name] = score_best_of_n(model, judge, (1, NUM_SAMPLES), num_cases, SEED, progress)
    write_report(
        dataset, str(report), imagined=imagined_steps(models["after"], judge, NUM_SHOWN, NUM_SAMPLES, SEED)
    )
    return DemoResult(
        status,
        check(dataset),
        shown,
        score(predictions),
        score(compare(chosen, out)[0]),
        judged["before"],
        judged["after"],
        report,
    )


def _choose_half(out: Path, dataset: str, num_triplets: int) -> str:
    """Select the likelier half of the triplets of each class. Returns them as a dataset."""
    from kinescribe.labeling.curate import curate
    from kinescribe.labeling.materialize import write_chosen
    from kinescribe.schemas.config import CurateConfig

    selection, chosen = str(out / "selection.parquet"), str(out / "chosen")
    curate([dataset], selection, CurateConfig(top_k=max(1, num_triplets // 2)))
    write_chosen([dataset], selection, chosen)
    return chosen


def _fine_tune(out: Path, dataset: str) -> Path:
    """The world model after a few steps on the chosen triplets."""
    from kinescribe.cluster.train import run_train
    from kinescribe.schemas.training import Optimization, WorldTraining

    config = WorldTraining(
        data=(dataset,),
        select=str(out / "selection.parquet"),
        out=str(out / "world"),
        init=WORLD,
        steps=STEPS,
        batch=16,
        importance_floor=0.3,
        log_every=10,
        optimization=Optimization(learning_rate=1e-4, warmup_steps=5),
    )
    with stdout_for_results():
        return run_train(config)
