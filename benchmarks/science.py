"""The method's claims in the simulated world, over several seeds: figures as JSON, a plot, and a table.

The embedded models know balls, boxes, triangles and crosses; here they meet stars, arrows, hearts and
moons. Both models train on a few labelled triplets of these. Then the dynamics model labels more and
rougher clips, and the world model trains on both, with and without weights. Changes of objects are judged
in separate scenes. Run again to resume; seeds in the results file are not run again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as PILImage
from science_plot import plot, table

from kinescribe.cluster.label import run_label
from kinescribe.evaluation.label_accuracy import Prediction, compare, predict, score
from kinescribe.evaluation.preference import prefer
from kinescribe.evaluation.scene_judge import Verdict
from kinescribe.evaluation.world import Case, draw_case
from kinescribe.inference.best_of_n import imagine_best
from kinescribe.labeling.curate import curate
from kinescribe.models.registry import load_model
from kinescribe.models.token_vlm import TokenVLM
from kinescribe.schemas.config import CurateConfig, LabelConfig, Resources
from kinescribe.schemas.training import TRAININGS
from kinescribe.simulation.actions import CAMERA, Action
from kinescribe.simulation.clips import write_clips
from kinescribe.simulation.counterfactuals import shrunk
from kinescribe.simulation.scene import NEW_SHAPES
from kinescribe.simulation.transitions import CLASSES
from kinescribe.simulation.triplets import Draw, write_triplets

BASES = {"dynamics": "embedded", "world": "embedded-world"}
LABELLED = Draw(camera_weight=0.3, rough_share=0.0, shapes=NEW_SHAPES)
FEW_TRIPLETS, TEST_TRIPLETS = 2048, 512
NUM_CLIPS, NUM_CASES, NUM_CURVE_CASES = 2048, 160, 60
STEPS = 400
CURVE = (25, 50, 100, 200, STEPS)
COUNTS = (1, 2, 4, 8)
SHARED_SEED, FIRST_SEED = 201, 1000
"""Seed n of the results uses FIRST_SEED + n in every draw."""
OPTIMIZATION = {"learning_rate": 6e-4, "muon_learning_rate": 5e-3, "warmup_steps": 50, "weight_decay": 0.02}
Figures = dict[str, Any]


class Lab(NamedTuple):
    """The folders of a run, for all seeds and for one seed, and the seed of its draws."""

    clips: Path
    own: Path
    draw: int

    def at(self, name: str) -> str:
        return str(self.own / name)


def fine_tune(
    task: str,
    here: Lab,
    name: str,
    data: Sequence[str],
    on_step: Callable[[int, TokenVLM], None] | None = None,
    **given: Any,
) -> None:
    """Train in this process, from the last checkpoint if there is one."""
    from kinescribe.training.session import TrainSession

    out = here.at(name)

    def report(metrics: Mapping[str, float]) -> None:
        print(out, {name: round(value, 3) for name, value in metrics.items()}, flush=True)
        if on_step and "samples_per_s" in metrics and metrics["step"] in CURVE:
            vlm: TokenVLM = session.job.vlm
            on_step(int(metrics["step"]), vlm)
            vlm.network.train()

    if not Path(out, "export").is_dir():
        given |= {"task": task, "out": out, "data": [here.at(part) for part in data], "init": BASES[task]}
        given |= {"steps": STEPS, "batch": 32, "seed": here.draw, "optimization": OPTIMIZATION}
        given |= {"log_every": 25, "evaluate_every": 500}
        session = TrainSession(TRAININGS[task].model_validate(given), report, print)
        session.run()


def teach_dynamics(here: Lab) -> None:
    """Train the dynamics model on the few labelled triplets, and record how it learns."""
    codec = load_model(BASES["dynamics"]).codec
    write_triplets(here.at("few"), FEW_TRIPLETS, "train", here.draw, codec, draw=LABELLED)
    write_triplets(here.at("test"), TEST_TRIPLETS, "test", here.draw, codec, draw=LABELLED)

    def exact(model: TokenVLM) -> float:
        return share_exact(predict(here.at("test"), model, TEST_TRIPLETS))

    fine_tune("dynamics", here, "dynamics", ["few"], on_step=curve(here, "dynamics", exact))


def label_video(here: Lab) -> None:
    """Label the clips with the real pipeline, and select the likelier half of their pairs, class by class."""
    config = LabelConfig(dynamics=here.at("dynamics/export"))
    status = run_label(str(here.clips / "clips"), here.at("video"), config, Resources())
    curate([here.at("video")], here.at("selection.parquet"), CurateConfig(top_k=status.triplets // 2))


def teach_worlds(here: Lab) -> None:
    """Train the world model on the few triplets, with labelled video, and with weights, for equal steps."""
    cases = draw_cases(here.draw, NUM_CURVE_CASES)

    def right(model: TokenVLM) -> float:
        return means([samples[0] for samples in judged(model, None, cases, 1)])["right"]

    fine_tune("world", here, "supervised", ["few"], weights="none", on_step=curve(here, "world", right))
    video = {"select": here.at("selection.parquet"), "mix": {"supervised": 0.3, "labelled": 0.7}}
    fine_tune("world", here, "video", ["few", "video"], weights="none", **video)
    fine_tune("world", here, "weights", ["few", "video"], weights="l2", importance_floor=0.3, **video)


def curve(here: Lab, task: str, accuracy: Callable[[TokenVLM], float]) -> Callable[[int, TokenVLM], None]:
    """Records the accuracy of the model after a step in a file; step 0 is the base model."""
    file = Path(here.at(f"curve-{task}.json"))

    def measure(step: int, model: TokenVLM) -> None:
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(known | {str(step): accuracy(model)}))

    if not file.exists():
        measure(0, load_model(BASES[task]))
    return measure


def share_exact(predictions: Sequence[Prediction]) -> float:
    """Accuracy over the predictions of object changes."""
    return score([one for one in predictions if not one.truth.is_camera]).exact.share


def draw_cases(seed: int, num: int) -> list[Case]:
    indices = [index for index in range(num * 2) if CLASSES[index % len(CLASSES)] not in CAMERA]
    return [draw_case(seed, index, NEW_SHAPES) for index in indices[:num]]


class Judged(NamedTuple):
    """The verdict on a sample, the requested action, and the action's likelihood for the sample."""

    verdict: Verdict
    asked: Action
    logprob: float


def judged(
    world: TokenVLM, dynamics: TokenVLM | None, cases: Sequence[Case], num_samples: int
) -> Iterator[list[Judged]]:
    """The samples of each case, with the dynamics model's log-probability if there is a dynamics model."""
    codec = world.codec
    for index, case in enumerate(cases):
        source = codec.encode(codec.preprocess([PILImage.fromarray(case.source)])).stored_BL[0]
        asked = case.change.action
        codes_NL, scores_N = imagine_best(world, dynamics, source, str(asked), num_samples, index)
        images = [shrunk(np.asarray(image)) for image in codec.pictures(codes_NL)]
        yield [
            Judged(case.judge.judge(image, asked), asked, logprob)
            for image, logprob in zip(images, scores_N, strict=True)
        ]


def means(samples: Sequence[Judged]) -> Figures:
    """The judge's means, and the shares of samples that show the requested action or no change."""
    verdicts = [sample.verdict for sample in samples]
    return {
        "judge": float(np.mean([verdict.score for verdict in verdicts])),
        "editing": float(np.mean([verdict.editing for verdict in verdicts])),
        "minimal": float(np.mean([verdict.minimal for verdict in verdicts])),
        "right": float(np.mean([sample.verdict.nearest == sample.asked for sample in samples])),
        "copied": float(np.mean([verdict.nearest is None for verdict in verdicts])),
    }


def likely(sample: Judged) -> float:
    return sample.logprob


def good(sample: Judged) -> float:
    return sample.verdict.score


def measure(here: Lab) -> Figures:
    """All results of one seed."""
    bases = {task: load_model(name) for task, name in BASES.items()}
    names = ("dynamics", "supervised", "video", "weights")
    models = {name: load_model(here.at(f"{name}/export")) for name in names}
    cases = draw_cases(here.draw + 1, NUM_CASES)
    worlds = {"base": bases["world"], "supervised": models["supervised"], "video": models["video"]}
    ablation = {
        name: means([samples[0] for samples in judged(world, None, cases, 1)])
        for name, world in worlds.items()
    }
    drawn = list(judged(models["weights"], models["dynamics"], cases, max(COUNTS)))
    ablation["weights"] = means([samples[0] for samples in drawn])
    best = {count: means([max(some[:count], key=likely) for some in drawn]) for count in COUNTS}
    oracle = {count: means([max(some[:count], key=good) for some in drawn]) for count in COUNTS}
    ablation["best of 8"] = best[8]
    preference = {
        task: {"before": preferences(here, before, task), "after": preferences(here, after, task)}
        for task, before, after in (
            ("dynamics", bases["dynamics"], models["dynamics"]),
            ("world", bases["world"], models["weights"]),
        )
    }
    return {
        "curve": {task: json.loads(Path(here.at(f"curve-{task}.json")).read_text()) for task in bases},
        "ablation": ablation,
        "best_of_n": {str(count): figures["judge"] for count, figures in best.items()},
        "oracle": {str(count): figures["judge"] for count, figures in oracle.items()},
        "preference": preference,
        "labels": labels(here),
    }


def preferences(here: Lab, model: TokenVLM, task: Any) -> Figures:
    found = prefer(model, here.at("test"), task, 200, here.draw)
    return {way: rate.share for way, rate in found.likelier.items()}


def labels(here: Lab) -> Figures:
    """Accuracy of the video labels, by tenth of likelihood, and of the likelier half."""
    from kinescribe.labeling.materialize import write_chosen

    with tempfile.TemporaryDirectory() as chosen:
        write_chosen([here.at("video")], here.at("selection.parquet"), chosen)
        every, shown = compare(here.at("video"), here.clips)
        kept, kept_shown = compare(chosen, here.clips)
    return {
        "deciles": [rate.share for rate in score(every).by_decile],
        "exact": score(every).exact.share,
        "exact_chosen": score(kept).exact.share,
        "of_all_pairs": score(every).exact.hits / sum(shown.values()),
        "of_all_chosen": score(kept).exact.hits / sum(kept_shown.values()),
    }


def start_process(threads: int, group: str) -> None:
    """Set up a single rank with few torch threads, because seeds run side by side."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(threads)
    os.environ["LOCAL_RANK"] = "0"
    store = dist.FileStore(f"{group}/{os.getpid()}", 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)


def run(out: Path, seeds: Sequence[int], workers: int) -> dict[int, Figures]:
    """Run every stage for all seeds, side by side except labelling, which Ray distributes."""
    labs = [Lab(out / "video", out / f"seed-{seed}", FIRST_SEED + seed) for seed in seeds]
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as group:
        processes = partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("spawn"))
        few = {"initializer": start_process, "initargs": (max(1, cores // workers), group)}
        with processes(workers, **few) as pool:
            list(pool.map(teach_dynamics, labs))
        if not (out / "video" / "truth.jsonl").exists():
            write_clips(out / "video", NUM_CLIPS, "train", SHARED_SEED, shapes=NEW_SHAPES)
        for here in labs:
            label_video(here)
        with processes(workers, **few) as pool:
            list(pool.map(teach_worlds, labs))
            return dict(zip(seeds, pool.map(measure, labs), strict=True))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="Seeds side by side.")
    options.add_argument("--out", type=Path, default=Path("out/science"), help="Models and datasets.")
    options.add_argument("--results", type=Path, default=Path("docs/science.json"))
    chosen = options.parse_args()
    known: Figures = json.loads(chosen.results.read_text()) if chosen.results.exists() else {"seeds": {}}
    missing = [seed for seed in range(chosen.seeds) if str(seed) not in known["seeds"]]
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    for start in range(0, len(missing), chosen.workers):
        found = run(chosen.out, missing[start : start + chosen.workers], chosen.workers)
        known["seeds"] |= {str(seed): figures | {"machine": machine} for seed, figures in found.items()}
        chosen.results.write_text(json.dumps(known, indent=1) + "\n")
    plot(known["seeds"], chosen.results.with_suffix(".png"))
    print(table(known["seeds"]))


if __name__ == "__main__":
    main()
