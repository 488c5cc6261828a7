"""What people's corrections teach a dynamics model: its accuracy over their number, as JSON and a plot.

The embedded model meets clips in which half of the shapes are new to it, and labels them. Some of its rows
are reviewed by exact truth: the doubtful ones, or as many at random. It trains on what was kept or corrected,
and is then tested on other pictures of both kinds of shapes. Of two models that were taught different rows,
the precision of what both say alike is compared with that of as many of the likeliest labels. Run again to
resume.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from science import start_process

from kinescribe import review
from kinescribe.cluster.label import run_label
from kinescribe.evaluation.label_accuracy import Prediction, pair_truth, predict, score
from kinescribe.labeling.review_draw import draw_rows
from kinescribe.models.registry import load_model
from kinescribe.schemas.clips import stable_id
from kinescribe.schemas.config import Draw as Draws
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.schemas.training import DynamicsTraining
from kinescribe.simulation.actions import Action, parse
from kinescribe.simulation.clips import read_truth, write_clips
from kinescribe.simulation.scene import NEW_SHAPES, SHAPES
from kinescribe.simulation.triplets import Draw, write_triplets
from kinescribe.storage.dataset import Dataset
from kinescribe.training.session import TrainSession

BOTH = SHAPES + NEW_SHAPES
DRAWS: tuple[Draws, ...] = ("random", "doubtful")
FIRST_SEED = 4000
OPTIMIZATION = {"learning_rate": 6e-4, "muon_learning_rate": 5e-3, "warmup_steps": 20, "weight_decay": 0.02}
COLOURS = {"random": "#a0aec0", "doubtful": "#2b6cb0"}


def exact(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Accuracy on all pairs, and on changes of objects of the new shapes."""
    new = [one for one in predictions if one.truth.shape in NEW_SHAPES]
    return {"all": round(score(predictions).exact.share, 4), "new": round(score(new).exact.share, 4)}


def ratings(dataset: str, world: Path) -> dict[str, dict[str, str]]:
    """What somebody who sees everything says of each row."""
    truths = read_truth(world)
    columns = ["triplet_id", "video", "source_time_s", "target_time_s", "action"]
    found: dict[str, dict[str, str]] = {}
    for row in Dataset.open(dataset).scan(columns).to_table().to_pylist():
        truth = truths["/".join(row["video"].split("/")[-2:])]
        shown = pair_truth(truth, row["source_time_s"], row["target_time_s"])
        if not isinstance(shown, Action):
            reason = "several" if shown == "mixed" else "nothing"
            found[row["triplet_id"]] = {"verdict": "reject", "reason": reason}
        elif parse(row["action"]) == shown:
            found[row["triplet_id"]] = {"verdict": "keep"}
        else:
            found[row["triplet_id"]] = {"verdict": "correct", "action": str(shown)}
    return found


def reviewed(
    folder: Path, dataset: str, known: Mapping[str, Any], num: int, draw: Draws, seed: int
) -> dict[str, Any]:
    """Review `num` rows; those that were kept or corrected become a dataset."""
    opened = Dataset.open(dataset)
    ids = draw_rows(opened, num, draw, seed, lambda done, total: None)["triplet_id"].to_list()
    page = {"page": stable_id(draw, num), "dataset": opened.fingerprint, "draw": draw, "rater": "truth"}
    page |= {"exported": "2026-12-01T00:00:00Z", "ratings": {one: known[one] for one in ids}}
    file = folder / f"review-{draw}-{num}.json"
    file.write_text(json.dumps(page))
    review.apply(dataset, [file], folder / f"reviewed-{draw}-{num}")
    verdicts = [known[one]["verdict"] for one in ids]
    return {verdict: verdicts.count(verdict) for verdict in ("keep", "correct", "reject")}


def taught(folder: Path, name: str, steps: int, seed: int) -> str:
    """The embedded model after it trained on reviewed rows."""
    out = folder / f"model-{name}"
    if not (out / "export").is_dir():
        given: dict[str, Any] = {"data": [str(folder / f"reviewed-{name}")], "out": str(out)}
        given |= {"init": "embedded", "steps": steps, "batch": 32, "seed": seed, "log_every": steps}
        given |= {"optimization": OPTIMIZATION, "evaluate_every": steps}
        session = TrainSession(DynamicsTraining.model_validate(given), lambda _: None, lambda _: None)
        session.run()
    return str(out / "export")


def agreement(first: Sequence[Prediction], second: Sequence[Prediction]) -> dict[str, float]:
    """The precision of what two models say alike, and of as many of the likeliest labels of the first."""
    right = np.array([parse(one.text) == one.truth for one in first])
    alike = np.array([a.text == b.text for a, b in zip(first, second, strict=True)])
    likeliest = np.argsort([-(one.mean_logprob or 0.0) for one in first])[: alike.sum()]
    values = {"share": alike.mean(), "agreed": right[alike].mean(), "likeliest": right[likeliest].mean()}
    return {name: round(float(value), 4) for name, value in values.items()}


def run_seed(folder: Path, index: int, options: argparse.Namespace) -> dict[str, Any]:
    seed, world = FIRST_SEED + index, folder / "world"
    codec = load_model("embedded").codec
    if not (world / "truth.jsonl").exists():
        write_clips(world, options.clips, "train", seed, shapes=BOTH)
    dataset, test = str(folder / "dataset"), str(folder / "test")
    run_label(str(world / "clips"), dataset, LabelConfig(), Resources())
    write_triplets(test, options.test, "test", seed, codec, draw=Draw(0.3, 0.0, BOTH))
    known = ratings(dataset, world)
    result: dict[str, Any] = {"rows": len(known), "before": exact(predict(test, load_model("embedded")))}
    said: dict[str, list[Prediction]] = {}
    for draw in DRAWS:
        for num in options.num:
            name = f"{draw}-{num}"
            verdicts = reviewed(folder, dataset, known, num, draw, seed)
            said[name] = predict(test, load_model(taught(folder, name, options.steps, seed)))
            result[name] = {"verdicts": verdicts, "exact": exact(said[name])}
            print(json.dumps({"seed": index, name: result[name]}), flush=True)
    largest = max(options.num)
    result["agreement"] = agreement(said[f"doubtful-{largest}"], said[f"random-{largest}"])
    return result


def plot(seeds: Mapping[str, Any], numbers: Sequence[int], path: Path) -> None:
    """Accuracy over the number of reviewed rows: a line for each draw, points for seeds."""
    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=110)
    for axes, part, title in zip(
        figure.subplots(1, 2), ("all", "new"), ("all changes", "changes of new shapes"), strict=True
    ):
        for draw in DRAWS:
            values = np.array(
                [
                    [seed["before"][part], *(seed[f"{draw}-{num}"]["exact"][part] for num in numbers)]
                    for seed in seeds.values()
                ]
            )
            places = [0, *numbers]
            axes.plot(places, values.mean(0), color=COLOURS[draw], label=f"{draw} rows", linewidth=2)
            for one in values:
                axes.plot(places, one, "o", color=COLOURS[draw], markersize=3, alpha=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(xlabel="reviewed rows", ylabel="exact", ylim=(0, 1), title=title)
        axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=640)
    parser.add_argument("--test", type=int, default=512)
    parser.add_argument("--num", type=int, nargs="*", default=[64, 256, 1024], help="of reviewed rows")
    parser.add_argument("--steps", type=int, default=150, help="of each training")
    parser.add_argument("--folder", type=Path, help="folder for everything; run again to resume")
    parser.add_argument("--out", type=Path, default=Path("docs/corrections.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kinescribe-") as temporary:
        start_process(os.cpu_count() or 1, temporary)
        folder: Path = options.folder or Path(temporary)
        seeds: dict[str, Any] = {}
        for index in range(options.seeds):
            own = folder / f"seed-{index}"
            own.mkdir(parents=True, exist_ok=True)
            seeds[str(index)] = run_seed(own, index, options)
            line = {
                "benchmark": "corrections",
                "machine": f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores",
                "clips": options.clips,
                "steps": options.steps,
                "seeds": seeds,
            }
            print(json.dumps(line), flush=True)
            options.out.write_text(json.dumps(line, indent=1) + "\n")
            plot(seeds, options.num, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
