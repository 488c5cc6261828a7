"""Which score separates right labels from wrong ones: likelihood, or a variant of contrast?

Labels simulated triplets, with and without noise on their images, and H.264 clips; prints a line of JSON
for each. A score has its AUROC, average precision and the accuracy of the best quarter, half and three
quarters, each as [value, low, high] with the 95 % interval of a bootstrap over videos. `auroc_gain` is the
gain over the log-probability per token, in the same samples. A label is right if it is exactly the true
action. For pairs that show no single action every label is wrong; the clips have a line without such pairs
too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from kinescribe.cluster.label import run_label
from kinescribe.evaluation.label_accuracy import pair_truth
from kinescribe.models.registry import load_model
from kinescribe.models.token_vlm import TokenVLM
from kinescribe.models.tokens import CodePair, Codes, CodeTriplet
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.simulation.actions import Action, parse
from kinescribe.simulation.clips import read_truth, write_clips
from kinescribe.simulation.corruptions import decompressed
from kinescribe.simulation.triplets import write_triplets
from kinescribe.storage.dataset import Dataset

BATCH = 64
KEPT = {"best_25": 0.25, "best_50": 0.5, "best_75": 0.75}
BASE = "likelihood/token"
SEED = 5
FEWEST = 10
"""Fewest right or wrong labels; with fewer, some bootstrap samples would have none."""
Vector = NDArray[np.float64]
Item = TypeVar("Item")


class Label(NamedTuple):
    """A pair with its written action; `truth` is None if the pair shows no single action."""

    triplet: CodeTriplet
    logprob: float
    num_tokens: int
    video: str
    truth: Action | None

    @property
    def right(self) -> bool:
        return self.truth is not None and parse(self.triplet.action) == self.truth


def batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def of_triplets(dataset: str, model: TokenVLM, noise: float) -> Iterator[Label]:
    """The model's labels of simulated triplets, with noise of some grey levels on their images."""
    random = np.random.default_rng(SEED)
    table = Dataset.open(dataset).scan(["source", "target", "video", "action"]).to_table().to_pylist()
    for rows in batches(table):
        sources, targets = (
            encoded([row[end]["bytes"] for row in rows], model, noise, random) for end in ("source", "target")
        )
        pairs = list(map(CodePair, sources, targets))
        for row, pair, said in zip(rows, pairs, model.describe(pairs, 32), strict=True):
            triplet = pair.triplet(said.text)
            yield Label(triplet, said.logprob, said.num_tokens, row["video"], parse(row["action"]))


def encoded(
    images: Sequence[bytes], model: TokenVLM, noise: float, random: np.random.Generator
) -> Iterator[Codes]:
    pixels = (decompressed(image) for image in images)
    noisy = (image + random.normal(0, noise, image.shape) for image in pixels)
    pictures = [Image.fromarray(image.clip(0, 255).astype(np.uint8)) for image in noisy]
    codes_BL, _ = model.codec.encode(model.codec.preprocess(pictures))
    yield from codes_BL.cpu().numpy().astype(np.uint16)


def of_clips(dataset: str, world: Path) -> Iterator[Label]:
    """The labels of clips from a labelled dataset."""
    truths = read_truth(world)
    columns = ["video", "source_time_s", "target_time_s", "source_codes", "target_codes"]
    for row in (
        Dataset.open(dataset)
        .scan([*columns, "action", "action_logprob", "action_tokens"])
        .to_table()
        .to_pylist()
    ):
        truth = truths["/".join(row["video"].split("/")[-2:])]
        shown = pair_truth(truth, row["source_time_s"], row["target_time_s"])
        codes = (np.asarray(row[end], np.uint16) for end in ("source_codes", "target_codes"))
        triplet = CodeTriplet(*codes, row["action"])
        action = shown if isinstance(shown, Action) else None
        yield Label(triplet, row["action_logprob"], row["action_tokens"], row["video"], action)


def scores(labels: Sequence[Label], model: TokenVLM) -> dict[str, Vector]:
    """Every score of each label: those of `curate` are likelihood/token, likelihood and both_max/token."""
    likelihood = np.array([label.logprob for label in labels])
    swapped = logprobs([label.triplet.swapped for label in labels], model)
    copied = logprobs([label.triplet.copied for label in labels], model)
    sums = {
        "likelihood": likelihood,
        "swap": likelihood - swapped,
        "copy": likelihood - copied,
        "both_mean": likelihood - (swapped + copied) / 2,
        "both_max": likelihood - np.maximum(swapped, copied),
        "both_logsumexp": likelihood - np.logaddexp(swapped, copied),
    }
    num_tokens = np.array([label.num_tokens for label in labels])
    return sums | {f"{name}/token": values / num_tokens for name, values in sums.items()}


def logprobs(triplets: Sequence[CodeTriplet], model: TokenVLM) -> Vector:
    return np.array([logprob for some in batches(triplets) for logprob in model.score(some)])


def figures(right: NDArray[np.bool_], score: Vector) -> dict[str, float]:
    """How well a score separates right labels from wrong ones."""
    best_first = right[np.argsort(-score, kind="stable")]
    kept = {name: float(best_first[: round(len(right) * share)].mean()) for name, share in KEPT.items()}
    auroc, precision = roc_auc_score(right, score), average_precision_score(right, score)
    return {"auroc": float(auroc), "average_precision": float(precision), **kept}


def compare(right: NDArray[np.bool_], by_name: dict[str, Vector]) -> dict[str, dict[str, float]]:
    """The figures of every score, and the gain of its AUROC over the base."""
    found = {name: figures(right, score) for name, score in by_name.items()}
    gains = {name: {"auroc_gain": values["auroc"] - found[BASE]["auroc"]} for name, values in found.items()}
    return {name: found[name] | gains[name] for name in found}


def with_intervals(
    labels: Sequence[Label], by_name: dict[str, Vector], num_samples: int
) -> dict[str, dict[str, list[float]]]:
    """`compare` with intervals; the bootstrap draws all pairs of a video together."""
    right = np.array([label.right for label in labels])
    _, videos = np.unique([label.video for label in labels], return_inverse=True)
    members = [np.flatnonzero(videos == video) for video in range(videos.max() + 1)]
    random = np.random.default_rng(SEED)
    samples: list[dict[str, dict[str, float]]] = []
    for _ in range(num_samples):
        drawn = np.concatenate([members[video] for video in random.integers(len(members), size=len(members))])
        samples.append(compare(right[drawn], {name: score[drawn] for name, score in by_name.items()}))
    return {
        name: {
            key: [round(x, 4) for x in (value, *np.quantile([s[name][key] for s in samples], [0.025, 0.975]))]
            for key, value in values.items()
        }
        for name, values in compare(right, by_name).items()
    }


def report(name: str, labels: Sequence[Label], model: TokenVLM, options: argparse.Namespace) -> None:
    right = [label.right for label in labels]
    if min(sum(right), len(right) - sum(right)) < FEWEST:
        raise SystemExit(f"{name}: {sum(right)} of {len(right)} labels are right; use more triplets")
    line = {
        "benchmark": "scores",
        "machine": f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores",
        "dynamics": options.dynamics,
        "labels": name,
        "pairs": len(labels),
        "exact": round(float(np.mean(right)), 4),
        "scores": with_intervals(labels, scores(labels, model), options.samples),
    }
    print(json.dumps(line), flush=True)


def run(folder: Path, options: argparse.Namespace) -> None:
    model = load_model(options.dynamics)
    write_triplets(f"{folder}/triplets", options.triplets, "test", SEED, None)
    for noise in options.noise:
        report(
            f"triplets, noise {noise:g}",
            list(of_triplets(f"{folder}/triplets", model, noise)),
            model,
            options,
        )
    if not (folder / "truth.jsonl").exists():
        write_clips(folder, options.clips, "test", SEED)
    run_label(f"{folder}/clips", f"{folder}/dataset", LabelConfig(dynamics=options.dynamics), Resources())
    labels = list(of_clips(f"{folder}/dataset", folder))
    report("clips", labels, model, options)
    report("clips, one action", [label for label in labels if label.truth], model, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dynamics", default="embedded")
    parser.add_argument("--triplets", type=int, default=2048)
    parser.add_argument("--noise", type=float, nargs="*", default=[0, 48])
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--samples", type=int, default=500, help="of the bootstrap")
    parser.add_argument("--folder", type=Path, help="folder for the simulated data; run again to resume")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kinescribe-") as temporary:
        run(options.folder or Path(temporary), options)


if __name__ == "__main__":
    main()
